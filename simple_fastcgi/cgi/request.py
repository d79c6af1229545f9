"""What the parameters of a request mean, the mount point and path aside (RFC 3875 4.1).

All functions take the parameters as the web server sent them, in latin-1 text (one byte per
character), and raise nothing, whatever was sent. What is empty counts as absent: web servers
send many parameters as empty strings where they mean "not there".
"""

from __future__ import annotations

from .response import remember

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

MAX_LENGTH_DIGITS = 18
"""The digits of the largest CONTENT_LENGTH; one more could be beyond 2**63 - 1."""

PLAINTEXT = ("", "off", "0")
"""The values of HTTPS that do not mean TLS."""

HTTP_VERSIONS = {
    "HTTP/1.0": "1.0",
    "HTTP/1.1": "1.1",
    "HTTP/2": "2",
    "HTTP/2.0": "2",
    "HTTP/3": "3",
    "HTTP/3.0": "3",
}

EMPTY_IS_ABSENT = ("CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_USER", "AUTH_TYPE", "REMOTE_IDENT", "PATH_TRANSLATED")
"""Parameters that web servers send empty where they mean that there is none."""

NO_HEADERS = frozenset({"HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"})
"""Parameters that look like header fields: the first is dropped (httpoxy), the others have a variable of their own."""

DROPS_ERRORS = ("Caddy",)
"""Web servers (SERVER_SOFTWARE) that log nothing of FCGI_STDERR, or only if they are told to and new enough."""

AUTHORIZATION_NAMES = (
    "HTTP_AUTHORIZATION",
    "REDIRECT_HTTP_AUTHORIZATION",
    "REDIRECT_REDIRECT_HTTP_AUTHORIZATION",
    "REDIRECT_REDIRECT_REDIRECT_HTTP_AUTHORIZATION",
    "Authorization",
    "AUTHORIZATION",
)


def join_repeated(params: MutableMapping[str, str], repeated: Iterable[tuple[str, str]]) -> None:
    """Join in ``params`` the header fields that came more than once (RFC 3875 4.1.18, RFC 9110 5.3).

    ``repeated`` holds (name, value) of every parameter whose name came more than once, all
    of its values, in the order in which they were sent; ``params`` has the last of them.

    nginx, HAProxy and h2o send a field that came twice as two parameters; Apache, lighttpd
    and Caddy join it themselves. Cookies are joined with "; " (RFC 9113 8.2.3), others with
    ", ". What is no header field was set twice in the web server's configuration, where the
    last one is meant (nginx's ``include fastcgi_params`` and an override after it); so is
    HTTP_HOST, which no web server lets through twice (RFC 9112 3.2).
    """
    fields: dict[str, list[str]] = {}
    for name, value in repeated:
        if name.startswith("HTTP_") and name != "HTTP_HOST":
            fields.setdefault(name, []).append(value)
    for name, values in fields.items():
        params[name] = ("; " if name == "HTTP_COOKIE" else ", ").join(values)


def scheme(params: Mapping[str, str]) -> str:
    """``"https"`` or ``"http"``, as the client asked.

    REQUEST_SCHEME comes from nginx, Apache, lighttpd and Caddy, but not from HAProxy and
    h2o, which send HTTPS as all of them do for TLS. Either one suffices: behind a proxy
    that ends TLS, people set HTTPS in the web server's configuration, while REQUEST_SCHEME
    still says "http". IIS sends HTTPS=off for plain text.
    """
    https = params.get("HTTPS")
    if https and https.lower() not in PLAINTEXT:
        return "https"
    told = params.get("REQUEST_SCHEME")
    return "https" if told and told != "http" and told.lower() == "https" else "http"


def http_version(params: Mapping[str, str]) -> str:
    """``"1.0"``, ``"1.1"``, ``"2"`` or ``"3"`` out of SERVER_PROTOCOL (RFC 3875 4.1.16), as ASGI writes them.

    ``"1.1"`` if it is missing or anything else (RFC 3875 allows ``INCLUDED``).
    """
    return HTTP_VERSIONS.get(params.get("SERVER_PROTOCOL", ""), "1.1")


def client(params: Mapping[str, str]) -> tuple[str, int] | None:
    """The client's address and port (REMOTE_ADDR, RFC 3875 4.1.8, and REMOTE_PORT), port 0 if unknown.

    None if there is no address, as for a client that came over a unix socket: nginx then
    sends ``unix:``, HAProxy ``unix``, Caddy ``@`` and lighttpd the socket's path.
    """
    address = params.get("REMOTE_ADDR")
    # No IP address begins so.
    if not address or address[0] in "u@/":
        return None
    text = params.get("REMOTE_PORT", "")
    port = _ports.get(text)
    return address, _learn_port(text) if port is None else port


# A client's next requests mostly come by the same connection, and to read a number takes ten times as long.
_ports: dict[str, int] = {}


def _learn_port(text: str) -> int:
    port = _port(text)
    if port is None:
        return 0
    remember(_ports, text, port)
    return port


def server(params: Mapping[str, str]) -> tuple[str, int | None] | None:
    """The server's host name or address and its port (RFC 3875 4.1.14, 4.1.15), port None if unknown.

    An IPv6 address comes without its brackets, as from a socket. nginx sends an empty
    SERVER_NAME where no ``server_name`` is set, and the pattern where it is one (``_``,
    ``*.example.com``, ``~^www``): the address (SERVER_ADDR) then stands in. HAProxy's
    SERVER_NAME has the port in it. On a unix socket it is the socket's path, without port;
    HAProxy and lighttpd then send port 0.
    """
    told = params.get("SERVER_NAME", ""), params.get("SERVER_ADDR", ""), params.get("SERVER_PORT", "")
    known = _servers.get(told)
    if known is None:
        known = _find_server(*told)
        # With some web servers clients choose the name: what is remembered of them must have a bound.
        if known is not None and len(_servers) < _MAX_SERVERS and sum(map(len, told)) <= _LONGEST_SERVER:
            _servers[told] = known
    return known


_servers: dict[tuple[str, str, str], tuple[str, int | None]] = {}
_MAX_SERVERS = 256
_LONGEST_SERVER = 320


def _find_server(name: str, address: str, port: str) -> tuple[str, int | None] | None:
    if not name or name == "_" or name[0] in "*~":
        name = address
    if name.startswith("unix:"):
        return name.removeprefix("unix:"), None
    host, port_of_name = _split_host(name)
    if not host:
        return None
    return host, _port(port) or port_of_name or None


def content_length(params: Mapping[str, str]) -> int | None:
    """The body's length in bytes (RFC 3875 4.1.2), None if the web server does not know it.

    nginx sends an empty one with every GET, Caddy -1 for a chunked upload. Whatever is not
    plain digits says nothing; the end of the input is the truth in any case.
    """
    return number(params.get("CONTENT_LENGTH", ""), MAX_LENGTH_DIGITS)


def authorization(params: Mapping[str, str]) -> str | None:
    """The value of the Authorization header field, None if there is none.

    Apache keeps the field from CGI programs, and people hand it on with a RewriteRule; after
    an internal redirect it is then named REDIRECT_HTTP_AUTHORIZATION, after a second one
    REDIRECT_REDIRECT_..., elsewhere ``Authorization``.
    """
    if params.keys().isdisjoint(AUTHORIZATION_NAMES):
        return None
    for name in AUTHORIZATION_NAMES:
        value = params.get(name)
        if value:
            return value
    return None


def _split_host(text: str) -> tuple[str, int | None]:
    """Host and port out of ``host``, ``host:port``, ``[IPv6]``, ``[IPv6]:port`` or a bare IPv6 address."""
    if text[:1] == "[":
        host, _, rest = text[1:].partition("]")
        return host, _port(rest.removeprefix(":"))
    host, _, port = text.partition(":")
    if ":" in port:
        return text, None
    return host, _port(port)


def _port(text: str) -> int | None:
    # Of latin-1, which this is, only 0 to 9 are decimal.
    if len(text) <= 5 and text.isdecimal() and (port := int(text)) <= 65535:
        return port
    return None


def number(text: str, max_digits: int) -> int | None:
    """`text` as a whole number if it is nothing but at most `max_digits` ASCII digits, else None."""
    # int() alone would take "+1", "1_0", " 1" and the digits of all scripts, and refuses, with
    # an exception, more than 4300 of them.
    if len(text) <= max_digits and text.isascii() and text.isdigit():
        return int(text)
    return None
