"""How a call may end: exit statuses, which are curl's where curl has one."""

from __future__ import annotations

OK = 0
REFUSED = 1
USAGE = 2
URL = 3
HOST = 6
CONNECT = 7
PROTOCOL = 8
PARTIAL = 18
HTTP_ERROR = 22
WRITE = 23
READ = 26
TIMEOUT = 28
EMPTY = 52
RECEIVE = 56
INTERRUPTED = 130

STATUSES = {
    OK: "a response came, whatever its HTTP status",
    REFUSED: "the application refused the request, or answers no FCGI_GET_VALUES",
    USAGE: "the command line is wrong",
    URL: "the URL is wrong",
    HOST: "the target's host name is not known",
    CONNECT: "nobody takes the connection",
    PROTOCOL: "what came is no FastCGI, or no CGI response",
    PARTIAL: "the response ended early, or is longer than it said",
    HTTP_ERROR: "--fail: the HTTP status is 400 or above, or the application's status is not 0",
    WRITE: "the output cannot be written",
    READ: "a file to be sent cannot be read",
    TIMEOUT: "--max-time or --connect-timeout is over",
    EMPTY: "the connection or the request ended without a response",
    RECEIVE: "the connection broke before the response's head was there",
    INTERRUPTED: "interrupted (Ctrl-C)",
}
"""Each exit status, and what it means."""


class CallError(Exception):
    """A call has failed with the exit status `status`; the message is one line, for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def shown(text: bytes | str) -> str:
    """`text` for a line on a terminal: what is no text, and what would move the cursor, as escapes."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def reason_of(error: OSError) -> str:
    """Why the system refused something, as a part of a sentence."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
