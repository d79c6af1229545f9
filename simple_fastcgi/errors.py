"""The exceptions of this package; this module imports nothing."""


class ProtocolError(Exception):
    """A peer violated the FastCGI 1.0 protocol.

    It is the only exception that leaves :mod:`simple_fastcgi.protocol` because of what a
    peer sent. The connection it came from cannot be used any more and is closed; no other
    connection is affected.
    """


class ResponseHeadError(ProtocolError):
    """The head of a CGI response is missing, malformed or too large (RFC 3875, section 6)."""


class BrokenResponseError(Exception):
    """The end of a response never came: the application closed the connection, or sent less than it had announced.

    `received` tells whether anything of the response had come.
    """

    def __init__(self, message: str, *, received: bool) -> None:
        super().__init__(message)
        self.received = received


class RequestRefusedError(Exception):
    """An application refused a request (FastCGI 1.0, section 5.5).

    `protocol_status` is FCGI_CANT_MPX_CONN, FCGI_OVERLOADED or FCGI_UNKNOWN_ROLE.
    """

    def __init__(self, message: str, *, protocol_status: int) -> None:
        super().__init__(message)
        self.protocol_status = protocol_status


class ConfigurationError(ValueError):
    """A setting is unknown, out of range, or contradicts another one.

    The message names the setting, the value, and the cure.
    """
