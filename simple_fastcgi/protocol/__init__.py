"""FastCGI 1.0 as pure computation: bytes in, requests and bytes out (sans-IO).

Nothing here knows a socket, a thread, a clock or an event loop. Violations by the peer raise
:class:`~simple_fastcgi.errors.ProtocolError`; any other exception is a bug.
"""
