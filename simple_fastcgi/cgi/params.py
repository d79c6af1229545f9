"""The parameters of a request, made out of HTTP (RFC 3875, section 4): what a web server tells an application.

:mod:`.paths`, :mod:`.asgi` and :mod:`.wsgi` read them. All texts hold one byte per character (latin-1).
"""

from __future__ import annotations

import re

from ..errors import ConfigurationError
from .paths import decode_path, normalize_root_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Params = dict[str, str]
    Extra = Mapping[str, str | bytes | None]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Header fields that are meant for one connection (RFC 9110, 7.6.1), in lower case."""

# What no Connection field takes away.
_ALWAYS_END_TO_END = frozenset({b"content-length", b"content-type", b"host"})
_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
# As nginx: anything else could be confused with another field in a variable's name.
_PASSED_NAME = re.compile(rb"[-0-9A-Za-z]+")
_TARGET = re.compile(rb"/[^\x00-\x20\x7f#]*|\*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class ParamsBuilder:
    """Makes the parameters of requests; says once what is called. All arguments are keywords.

    Exactly one of three ways says what answers a request:

    `document_root` alone
        The script is a file below that folder: what the path names, up to and with the first segment that ends in
        `split` (default ``.php``); what follows is PATH_INFO. For a path that ends in a slash it is `index` (default
        ``index.php``) in that folder. Paths with ``..`` are refused.
    `script`
        This one file answers everything, as behind nginx's ``try_files``. `document_root` is its folder if it is not
        told; SCRIPT_NAME is the script's path below it.
    neither
        An application, mounted at `root_path` (default: the root): SCRIPT_NAME is that, PATH_INFO the rest of the path.
        A path that is not below `root_path` is refused.

    `params` are further parameters of every request, and win over those made here; None takes one away. `software` is
    SERVER_SOFTWARE. Text that is not ASCII means UTF-8. Raises
    :class:`~simple_fastcgi.errors.ConfigurationError` for what contradicts itself.
    """

    __slots__ = ("_document_root", "_extra", "_index", "_root_path", "_script", "_script_name", "_software", "_split")

    def __init__(
        self,
        *,
        document_root: str | None = None,
        script: str | None = None,
        root_path: str | None = None,
        index: str = "index.php",
        split: str = ".php",
        software: str = "simple_fastcgi",
        params: Extra | None = None,
    ) -> None:
        if root_path is not None and (document_root is not None or script is not None):
            raise ConfigurationError("root_path is for applications: give no document_root or script with it")
        for name, text in (("document_root", document_root), ("script", script)):
            if text is not None and not text.startswith("/"):
                raise ConfigurationError(f"{name}={text!r}: give an absolute path, as the application sees it")
        if not index or "/" in index:
            raise ConfigurationError(f"index={index!r}: give a file's name")
        if not split:
            raise ConfigurationError("split='': give how the names of scripts end")
        self._root_path = normalize_root_path(root_path or "")
        self._index = wire_text(index)
        self._split = wire_text(split)
        self._software = wire_text(software)
        self._extra = dict(params or {})
        self._script = None if script is None else wire_text(script)
        root = None if document_root is None else wire_text(document_root).rstrip("/")
        self._script_name = ""
        if self._script is not None:
            if root is None:
                root = self._script.rpartition("/")[0]
            elif not self._script.startswith(root + "/"):
                raise ConfigurationError(f"script={script!r} is not below document_root={document_root!r}")
            self._script_name = self._script[len(root) :]
        self._document_root = root

    def build(
        self,
        method: str,
        target: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        scheme: str = "http",
        http_version: str = "1.1",
        client: tuple[str, int] | None = None,
        server: tuple[str, int | None] | None = None,
        content_length: int | None = None,
        root_path: str | None = None,
        params: Extra | None = None,
    ) -> Params:
        """The parameters of one request, in latin-1 text, for :meth:`.WebServerConnection.begin`.

        `target` is the path and query as they are sent (RFC 9112, 3.2.1), with their escapes, or ``b"*"``. Of
        `headers`, pairs of name and value, those that came twice are joined; not passed on are those of one connection
        (:data:`HOP_BY_HOP`, and what Connection names), ``Proxy``, and, as with nginx, names with other characters than
        letters, digits and dashes, and Content-Length beside Transfer-Encoding. `scheme` is ``"http"`` or ``"https"``,
        `http_version` as ASGI writes it. `client` and `server` are addresses and ports; without `server` the Host field
        counts. `content_length`, in bytes, stands in for the field, where the body's length is known otherwise: PHP
        reads nothing of a body without a length. `root_path` is where the application, the `document_root` or the
        `script` is mounted for this request, if it is not where the builder was told: scripts are named by what follows
        it, and SCRIPT_NAME begins with it. `params` wins over all of it, None takes a parameter away.

        Raises ValueError for what cannot be a request.
        """
        if not _TOKEN.fullmatch(method.encode("utf-8", "replace")):
            raise ValueError(f"method={method!r}: give a token, like GET")
        if not _TARGET.fullmatch(target):
            raise ValueError(f"target={target!r}: give the path and query as they are sent, from a slash on")
        url, _, query = target.decode("latin-1").partition("?")
        built = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": self._software,
            "REQUEST_METHOD": method,
            "REQUEST_URI": target.decode("latin-1"),
            "QUERY_STRING": query,
            "REQUEST_SCHEME": scheme,
            "SERVER_PROTOCOL": f"HTTP/{http_version}",
            # PHP's cgi.force_redirect asks for it.
            "REDIRECT_STATUS": "200",
        }
        if scheme == "https":
            built["HTTPS"] = "on"
        built |= self._script_params(url, self._root_path if root_path is None else normalize_root_path(root_path))
        built |= header_params(headers)
        if content_length is not None:
            built["CONTENT_LENGTH"] = str(content_length)
        built |= _client_params(client)
        built |= _server_params(server, built.get("HTTP_HOST", ""), _DEFAULT_PORTS.get(scheme, 80))
        for extra in (self._extra, params):
            for name, value in (extra or {}).items():
                if value is None:
                    built.pop(wire_text(name), None)
                else:
                    built[wire_text(name)] = wire_text(value)
        return built

    def _script_params(self, url: str, root_path: str) -> Params:
        root = self._document_root
        if url == "*" and root is not None:
            raise ValueError("target=b'*': no script is named by it")
        path = "" if url == "*" else decode_path(url)
        below = path[len(root_path) :]
        if not path.startswith(root_path) or (root_path and below[:1] not in ("", "/")):
            raise ValueError(f"{path!r} is not below root_path={root_path!r}")
        if root is None:
            return {"SCRIPT_NAME": root_path, "PATH_INFO": below, "DOCUMENT_URI": path}
        if self._script is not None:
            script_name, script = self._script_name, self._script
            below = below.removeprefix(script_name) if below.startswith(script_name + "/") else ""
        else:
            script_name, below = self._split_path(below or "/")
            script = root + script_name
        built = {
            "DOCUMENT_ROOT": root or "/",
            "DOCUMENT_URI": root_path + script_name + below,
            "SCRIPT_NAME": root_path + script_name,
            "SCRIPT_FILENAME": script,
        }
        if below:
            built["PATH_INFO"] = below
            built["PATH_TRANSLATED"] = root + below
        return built

    def _split_path(self, path: str) -> tuple[str, str]:
        """SCRIPT_NAME and PATH_INFO of a decoded path."""
        if "\0" in path or ".." in path.split("/"):
            raise ValueError(f"{path!r}: the path of a file must not have '..' or NUL in it")
        stop = path.find(self._split + "/") + len(self._split)
        if stop >= len(self._split):
            return path[:stop], path[stop:]
        return (path + self._index if path.endswith("/") else path), ""


def header_params(headers: Iterable[tuple[bytes, bytes]]) -> Params:
    """The parameters that header fields become (RFC 3875, 4.1.18); see :meth:`ParamsBuilder.build`."""
    fields: dict[bytes, list[bytes]] = {}
    headers = list(headers)
    has_length = tells_length(headers)
    for name, value in end_to_end(headers):
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"header field {name!r}: its name is no token")
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise ValueError(f"header field {name!r}: CR, LF or NUL in its value")
        # httpoxy: programs that the application starts would take it for their proxy.
        if lower != b"proxy" and _PASSED_NAME.fullmatch(name) and (has_length or lower != b"content-length"):
            fields.setdefault(lower, []).append(value.strip(b" \t"))
    params: Params = {}
    for name, values in fields.items():
        joined = (b"; " if name == b"cookie" else b", ").join(values).decode("latin-1")
        if name == b"content-length":
            if len(set(values)) > 1 or not values[0].isdigit():
                raise ValueError(f"Content-Length: {joined!r}: give one whole number")
            params["CONTENT_LENGTH"] = values[0].decode("ascii")
        elif name == b"content-type":
            params["CONTENT_TYPE"] = joined
        elif name == b"host" and len(values) > 1:
            raise ValueError(f"Host came {len(values)} times (RFC 9112, 3.2)")
        else:
            params["HTTP_" + name.decode("ascii").upper().replace("-", "_")] = joined
    return params


def tells_length(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a Content-Length tells the body's length: beside Transfer-Encoding it does not (RFC 9112, 6.3)."""
    names = {name.lower() for name, _ in headers}
    return b"content-length" in names and b"transfer-encoding" not in names


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """`headers`, of a request or a response, without those that are meant for one connection (RFC 9110, 7.6.1)."""
    fields = list(headers)
    dropped = set(HOP_BY_HOP)
    for name, value in fields:
        if name.lower() == b"connection":
            dropped.update(option.strip(b" \t").lower() for option in value.split(b","))
    dropped -= _ALWAYS_END_TO_END
    return [field for field in fields if field[0].lower() not in dropped]


def _client_params(client: tuple[str, int] | None) -> Params:
    if client is None:
        # As nginx says it of a client that came over a unix socket.
        return {"REMOTE_ADDR": "unix:"}
    address = wire_text(client[0])
    params = {"REMOTE_ADDR": address, "REMOTE_HOST": address}
    if client[1]:
        params["REMOTE_PORT"] = str(client[1])
    return params


def _server_params(server: tuple[str, int | None] | None, host: str, default_port: int) -> Params:
    if server is None or server[1] is None:
        # That of a unix socket is its path, which is no host.
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdecimal():
            name, port = host, ""
        return {"SERVER_NAME": name or "localhost", "SERVER_PORT": port or str(default_port)}
    name, told_port = wire_text(server[0]), str(server[1])
    if ":" in name:
        bare = name.strip("[]")
        return {"SERVER_NAME": f"[{bare}]", "SERVER_PORT": told_port, "SERVER_ADDR": bare}
    params = {"SERVER_NAME": name, "SERVER_PORT": told_port}
    if name.replace(".", "").isdigit():
        params["SERVER_ADDR"] = name
    return params


def wire_text(text: str | bytes) -> str:
    """`text` as one character per byte: str means UTF-8 (surrogateescape), bytes are taken as they are."""
    if isinstance(text, str):
        if text.isascii():
            return text
        text = text.encode("utf-8", "surrogateescape")
    return text.decode("latin-1")
