"""RFC 3875 as pure computation: what the parameters mean, and how a response head is written and read."""
