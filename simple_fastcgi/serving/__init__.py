"""From an application to a running service: finding the application, binding, signals, the end."""

KEPT_SOCKET = "_SIMPLE_FASTCGI_KEPT_SOCKET"
"""The environment variable by which a process that replaces itself tells so, and hands its socket on: :mod:`.restart`.

With an underscore in front: not one of those that are settings.
"""
