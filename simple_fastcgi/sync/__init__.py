"""Blocking sockets and threads around the protocol core."""
