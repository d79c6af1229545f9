"""From an application to a running service: finding the application, binding, signals, the end."""
