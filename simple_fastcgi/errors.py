"""The exceptions of this package; this module imports nothing."""


class ProtocolError(Exception):
    """A peer violated the FastCGI 1.0 protocol.

    It is the only exception that leaves :mod:`simple_fastcgi.protocol` because of what a
    peer sent. The connection it came from cannot be used any more and is closed; no other
    connection is affected.
    """


class ConfigurationError(ValueError):
    """A setting is unknown, out of range, or contradicts another one.

    The message names the setting, the value, and the cure.
    """
