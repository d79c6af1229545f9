"""Where an application is mounted: SCRIPT_NAME and PATH_INFO (RFC 3875 4.1.5, 4.1.13) behind every web server.

All that is known about the differences between web servers in this matter stands here, as
one table: :data:`RULES`. In the names and comments of this module *S* is SCRIPT_NAME, *P* is
PATH_INFO and *U* is the path of REQUEST_URI. Texts hold one byte per character (latin-1), as
PEP 3333 has it.
"""

from __future__ import annotations

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import TypeAlias

    Mount: TypeAlias = tuple[str, str]

HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

MOUNT_WITHOUT_PATH = ("Apache", "lighttpd")
"""Web servers (SERVER_SOFTWARE) whose S without a P is the mount point, called without a slash after it."""

TELLS_REWRITES = "lighttpd"
"""The web server (SERVER_SOFTWARE) that sends REDIRECT_URI whenever it has changed a URL."""

REWRITES_TO_SCRIPTS = ("Apache", "lighttpd", "LiteSpeed", "simple_fastcgi")
"""Web servers (SERVER_SOFTWARE) that may have one script answer all that is below its folder; the last is our client.

Others may ask for a path of their own in the course of a request, which must not be answered as what the browser asked
for: with nginx's ``auth_request`` that would be to let everybody in.
"""

ADDS_INDEX = "HAProxy"
"""The web server (SERVER_SOFTWARE) whose ``index`` puts the name of a file behind an S that ends in a slash."""

PROXIED = "proxy:"
"""How SCRIPT_FILENAME begins behind Apache's mod_proxy_fcgi."""


def normalize_root_path(root_path: str) -> str:
    """The mount point that an operator told, in the form that :func:`find_mount` takes.

    ``root_path`` is text as people write it: non-ASCII means UTF-8, ``/`` and the empty
    string both say "mounted at the root", the slash before and after it are optional. What
    comes back is empty, or begins with a slash and does not end in one; in latin-1 text.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` (a ``ValueError``) for what
    cannot be the path of a URL.
    """
    if not isinstance(root_path, str):
        raise ConfigurationError(f'root_path={root_path!r}: give a str, as "/app"')
    if "://" in root_path:
        raise ConfigurationError(f"root_path={root_path!r}: give the path alone, without scheme and host")
    if "?" in root_path or "#" in root_path:
        raise ConfigurationError(f"root_path={root_path!r}: give the path alone, without ? and #")
    if any(char < " " or char == "\x7f" for char in root_path):
        raise ConfigurationError(f"root_path={root_path!r}: take the control characters (CR, LF, NUL ...) out")
    try:
        # What is no UTF-8 on a command line arrives as surrogates; this gives its bytes back.
        encoded = root_path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"root_path={root_path!r}: take the lone surrogates out") from error
    return _normalised("/" + encoded.decode("latin-1")).rstrip("/")


def find_mount(params: Mapping[str, str], root_path: str | None = None, stock: bool | None = None) -> Mount:
    """SCRIPT_NAME and PATH_INFO as the application must see them (RFC 3875 4.1.13, 4.1.5; PEP 3333).

    ``params`` are the parameters as the web server sent them (of a name that came twice,
    the last); ``root_path``, as :func:`normalize_root_path` gives it, is the mount point
    that the operator told, None if nothing was told. It wins over what the web server says.
    ``stock`` is what ``is_stock`` says of ``params``, if that is known already.

    The mount point is empty, or begins with a slash and does not end in one. The path is
    percent-decoded; it is empty (only below a mount point) or begins with a slash. The two
    together name what the browser asked for. Nothing is raised, whatever was sent.
    """
    script = params.get("SCRIPT_NAME", "")
    path = params.get("PATH_INFO")
    url = params.get("REQUEST_URI", "")
    if "?" in url:
        url = url.partition("?")[0]
    # Nearly all requests end in this block: no byte of theirs is encoded or has to be
    # normalised, so that the texts agree as they are. The rules would find the same.
    if url and url[0] == "/":
        if root_path is not None:
            if script + (path or "") == url and not (path and script.endswith("/")):
                root = root_path.rstrip("/")
                rest = _below(url, root)
                if rest is not None:
                    return root, rest
        elif path is None:
            if script == url and (is_stock(params) if stock is None else stock):
                return "", script
        elif path == url and not script:
            return "", path
        elif script + path == url:
            return _tidied(script, path)
    return find_by_rules(params, root_path)


def is_below(path: str, root: str) -> bool:
    """Whether a URL's `path`, as it is or in a form that a web server may make of it, begins with the mount point."""
    forms = (decode_path(path), *_path_forms(path))
    return any(_below(form, root) is not None for form in forms)


def find_by_rules(params: Mapping[str, str], root_path: str | None = None) -> Mount:
    """The same as :func:`find_mount`, for any request and without its short cut."""
    sent = _Sent(params)
    if root_path is not None:
        return _told_by_operator(sent, root_path.rstrip("/"))
    for rule in RULES:
        found = rule(sent)
        if found is not None:
            return _tidied(*found)
    return _tidied(*_as_sent(sent))


class _Sent:
    """S, P and U of one request, U in each form that a web server may have made S and P from.

    ``urls`` holds these forms, the likeliest first; it is empty if there was no REQUEST_URI.
    ``target`` is what mod_proxy_fcgi was told to ask, ``is_absolute`` whether the client gave
    a URL with scheme and host, ``is_mount_alone`` whether an S without a P is the mount point,
    ``is_as_asked`` whether the web server, by its own account, has rewritten nothing,
    ``before`` what was asked for before the last rewrite, where the web server tells that,
    ``may_be_script`` whether a rewrite may have led to S, and U says for what, ``may_be_index``
    whether the last segment of S may be one that the web server has added.
    """

    __slots__ = (
        *("before", "is_absolute", "is_as_asked", "is_mount_alone"),
        *("may_be_index", "may_be_script", "path", "script", "target", "urls"),
    )

    def __init__(self, params: Mapping[str, str]) -> None:
        self.script = params.get("SCRIPT_NAME", "")
        self.path = params.get("PATH_INFO")
        if self.script == "/" and self.path:
            self.script = ""
        filename = params.get("SCRIPT_FILENAME", "")
        self.target = filename.removeprefix(PROXIED) if filename.startswith(PROXIED) else ""
        software = params.get("SERVER_SOFTWARE", "")
        self.is_mount_alone = software.startswith(MOUNT_WITHOUT_PATH) and not self.target
        uri = params.get("REQUEST_URI", "")
        self.is_as_asked = software.startswith(TELLS_REWRITES) and not _is_rewritten(
            self.script, uri, params.get("REDIRECT_URI")
        )
        # Behind an error S is what the operator has for errors, and not what was refused. Where nothing was found, it
        # may be one script for all there is.
        status = params.get("REDIRECT_STATUS", "200")
        self.before = params.get("REDIRECT_URL", "") if status == "200" else ""
        tells = bool(self.before) or (status in ("200", "404") and software.startswith(REWRITES_TO_SCRIPTS))
        self.may_be_script = tells and not self.target
        self.may_be_index = software.startswith(ADDS_INDEX)
        self.is_absolute = uri[:1] not in ("", "/")
        self.urls = _url_forms(uri)

    def is_url(self, text: str) -> bool:
        """Whether ``text`` names the same as U."""
        return _normalised(text) in self.urls


def _is_rewritten(script: str, uri: str, redirect: str | None) -> bool:
    """Whether `uri` led to `script` by a rewrite: lighttpd also tells of `uri` without its // and %2F as `redirect`."""
    if redirect is None:
        return False
    return redirect == script + uri or "." in script.rpartition("/")[2]


def is_stock(params: Mapping[str, str]) -> bool:
    """Whether an S without a P can only be the whole URL, as nginx and HAProxy send it."""
    software = params.get("SERVER_SOFTWARE", "")
    if software not in _stock_software:
        if software.startswith(MOUNT_WITHOUT_PATH):
            return False
        if len(_stock_software) < _MAX_SOFTWARE:
            _stock_software.add(software)
    filename = params.get("SCRIPT_FILENAME")
    return not filename or not filename.startswith(PROXIED)


def is_stock_always(names: Collection[str], fixed: Mapping[str, str]) -> bool | None:
    """What :func:`is_stock` says of all params with these `names`, of which some are `fixed`; None where it depends."""
    known = all(name in fixed or name not in names for name in ("SERVER_SOFTWARE", "SCRIPT_FILENAME"))
    return is_stock(fixed) if known else None


def whole_path_name(names: Collection[str], fixed: Mapping[str, str]) -> str:
    """The variable that is all of the path if it equals the one in REQUEST_URI; "" where others count, too.

    Of all params with these `names`, of which some are `fixed`, where no root path was told. :func:`find_mount` finds
    the same, but has to look at each request.
    """
    if "PATH_INFO" in names:
        return "" if fixed.get("SCRIPT_NAME", "SCRIPT_NAME" in names) else "PATH_INFO"
    return "SCRIPT_NAME" if "SCRIPT_NAME" in names and is_stock_always(names, fixed) else ""


# Such as were found to be none of MOUNT_WITHOUT_PATH: there is one, or very few.
_stock_software: set[str] = set()
_MAX_SOFTWARE = 16


def _url_forms(uri: str) -> list[str]:
    if not uri:
        return []
    url = uri.partition("?")[0]
    if url[:1] != "/":
        # The absolute form (RFC 9112 3.2.2), where an empty path means "/".
        _, is_absolute, rest = url.partition("://")
        if is_absolute:
            url = "/" + rest.partition("/")[2]
    if "#" not in url:
        return _path_forms(url)
    # nginx, Apache and lighttpd cut a fragment off (no browser sends one), the others do not.
    return _path_forms(url.partition("#")[0]) + _path_forms(url)


def _path_forms(path: str) -> list[str]:
    if "%" not in path:
        return [_normalised(path)]
    # %2F stays in Apache's "AllowEncodedSlashes NoDecode"; some web servers decode nothing.
    return [_normalised(form) for form in (decode_path(path), decode_path(path, keep_slash=True), path)]


def decode_path(text: str, *, keep_slash: bool = False) -> str:
    """Percent-decoded ``text``; what is no escape stays as it is, with ``keep_slash`` also %2F."""
    first, *pieces = text.split("%")
    decoded = [first]
    for piece in pieces:
        digits = piece[:2]
        is_escape = len(digits) == 2 and HEX_DIGITS.issuperset(digits)
        if is_escape and not (keep_slash and digits.upper() == "2F"):
            decoded += chr(int(digits, 16)), piece[2:]
        else:
            decoded += "%", piece
    return "".join(decoded)


def _normalised(text: str) -> str:
    """``text`` with its slashes merged and its dot segments resolved (RFC 3986 5.2.4)."""
    if "//" not in text and "/." not in text:
        return text
    first, *segments = text.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment and segment != ".":
            kept.append(segment)
    if segments[-1] in ("", ".", ".."):
        kept.append("")
    return "/".join((first, *kept))


def _below(url: str, root: str) -> str | None:
    """What follows ``root`` in ``url``, empty or from a slash on; None if ``url`` is not below ``root``."""
    if not url.startswith(root):
        return None
    rest = url[len(root) :]
    return rest if not rest or rest[0] == "/" else None


def _joined(script: str, path: str | None) -> str:
    if path and path[0] == "/":
        return script.rstrip("/") + path
    return script + (path or "")


def _tidied(root: str, path: str) -> Mount:
    """The two with their slashes where :func:`find_mount` promises them."""
    if path[:1] != "/":
        if root.endswith("/"):
            path = "/" + path
        elif path:
            # "/app" and "x" out of "/appx": not below "/app", and "/app/x" is somebody else's
            # URL, for which the web server may have other access rules.
            root, path = "", root + path
    root = root.strip("/")
    if root:
        return "/" + root, path
    return "", path if path[:1] == "/" else "/" + path


def _told_by_operator(sent: _Sent, root: str) -> Mount:
    """The operator's mount point, and what follows it in what the browser asked for."""
    whole = _whole_path(sent, root)
    rest = _below(whole, root)
    if rest is None:
        rest = _below(_normalised(whole), root)
    if rest is None:
        # A web server further in front has taken the mount point away: this is all below it.
        rest = whole
    if rest[:1] != "/" and (rest or not root):
        rest = "/" + rest
    return root, rest


def _whole_path(sent: _Sent, root: str) -> str:
    both = _joined(sent.script, sent.path)
    for whole in (both, sent.path or "", sent.script):
        if sent.is_url(whole):
            return whole
    if sent.path:
        # Caddy's handle_path, and .htaccess.
        unstripped = root + sent.path
        if sent.is_url(unstripped):
            return unstripped
    if (found := _rewritten_to_script(sent) or _index_added(sent)) is not None:
        return _joined(*found)
    if _absolute_target(sent):
        return sent.urls[0]
    return both


def _no_url(sent: _Sent) -> Mount | None:
    """No U. nginx with a hand-written list of parameters."""
    if sent.urls:
        return None
    return ("", sent.script) if sent.path is None else (sent.script, sent.path)


def _as_specified(sent: _Sent) -> Mount | None:
    """S + P = U. nginx with split, Apache's ScriptAlias, lighttpd, HAProxy's path-info, Caddy's split, h2o."""
    if sent.path is None or not sent.is_url(_joined(sent.script, sent.path)):
        return None
    return sent.script, sent.path


def _prefix_dropped_in_target(sent: _Sent) -> Mount | None:
    """No P, and the proxy's target is a tail of U. Apache's mod_proxy_fcgi, ``ProxyPass /app/ fcgi://host/``."""
    _, slash, rest = sent.target.partition("://")[2].partition("/")
    if sent.path or not slash:
        return None
    path = decode_path("/" + rest.partition("?")[0])
    tail = _normalised(path)
    for url in sent.urls:
        if url != tail and url.endswith(tail):
            root = url.removesuffix(tail)
            # S is the web server's own, in which %2F may have been kept.
            own = _below(sent.script, root)
            return root, path if own is None else own
    return None


def _script_alone(sent: _Sent) -> Mount | None:
    """No P, S = U. nginx's and HAProxy's stock setup, mod_proxy_fcgi; the mount's own URL on Apache and lighttpd."""
    if sent.path is not None or not sent.is_url(sent.script):
        return None
    return (sent.script, "") if sent.is_mount_alone else ("", sent.script)


def _prefix_stripped(sent: _Sent) -> Mount | None:
    """P = U beside an S, and no rewrite. lighttpd's ``strip-request-uri``, which takes the mount point out of U."""
    if not (sent.is_as_asked and sent.script and sent.path and sent.is_url(sent.path)):
        return None
    return sent.script, sent.path


def _both_whole(sent: _Sent) -> Mount | None:
    """P = U beside an S. nginx's stock include and a PATH_INFO line, HAProxy's set-param, IIS."""
    if not sent.path or not sent.is_url(sent.path):
        return None
    return "", sent.path


def _rewritten_to_script(sent: _Sent) -> Mount | None:
    """S is a script that is not in U, its folder is. Apache's .htaccess (``RewriteRule ... index.fcgi``), url.rewrite.

    Elsewhere S is what the web server itself asks for: nginx's ``auth_request``, ``error_page``, ``rewrite``.
    """
    script = _normalised(sent.script).rstrip("/")
    if not script or not sent.may_be_script or any(_below(url, script) is not None for url in sent.urls):
        return None
    folder, _, name = script.rpartition("/")
    rests = [rest for url in sent.urls if (rest := _below(url, folder)) is not None]
    path = _normalised(sent.path or "")
    if path in rests:
        return folder, sent.path or ""
    if not path and not ("." in name or sent.before):
        # lighttpd: the mount point itself, to which another path was rewritten.
        return None
    if not path or any(path in _as_rewritten(rest) for rest in rests):
        return (folder, rests[0]) if rests else _led_into_folder(sent, folder)
    # Else it is what a rule has made of U.
    return (folder, sent.path or "") if rests and "." in name else None


def _as_rewritten(path: str) -> set[str]:
    """What Apache makes of ``path`` where .htaccess puts it behind a script: cut at ? and #, or decoded again."""
    cut = path.partition("?")[0].partition("#")[0]
    return {_normalised(form) for text in (path, cut) for form in (text, *_path_forms(text))}


def _led_into_folder(sent: _Sent, folder: str) -> Mount | None:
    """A whole site that another .htaccess, above that of the script, has led into its folder."""
    rest = _below(_normalised(sent.before), folder)
    return ("", sent.urls[0]) if rest and rest in sent.urls else None


def _index_added(sent: _Sent) -> Mount | None:
    """No P, S is U and the name of a file. HAProxy's ``index``."""
    folder, slash, name = sent.script.rpartition("/")
    if sent.path is not None or not sent.may_be_index or "." not in name or not sent.is_url(folder + slash):
        return None
    return "", folder + slash


def _prefix_taken_away(sent: _Sent) -> Mount | None:
    """No S, P is a tail of U. Caddy's handle_path."""
    tail = _normalised(sent.path or "")
    if sent.script or tail[:1] != "/":
        return None
    for url in sent.urls:
        if url.endswith(tail):
            return url.removesuffix(tail), sent.path or ""
    return None


def _absolute_target(sent: _Sent) -> Mount | None:
    """P holds scheme and host. h2o, asked as a proxy is (``GET http://host/path``)."""
    if not sent.is_absolute or not (sent.path or "").startswith(("/http://", "/https://")):
        return None
    return "", sent.urls[0]


def _rewritten_stock(sent: _Sent) -> Mount | None:
    """No P, S has nothing to do with U. nginx's and HAProxy's stock setup behind a rewrite of the whole path."""
    if sent.path is not None or sent.is_mount_alone:
        return None
    return "", sent.script


def _as_sent(sent: _Sent) -> Mount:
    return sent.script, sent.path or ""


RULES: tuple[Callable[[_Sent], Mount | None], ...] = (
    _no_url,
    _as_specified,
    _prefix_dropped_in_target,
    _script_alone,
    _prefix_stripped,
    _both_whole,
    _rewritten_to_script,
    _index_added,
    _prefix_taken_away,
    _absolute_target,
    _rewritten_stock,
)
"""What S, P and U mean if the operator told nothing: the first rule that has an answer is right.

Each one's docstring says what it recognises and whose it is. If none has an answer, S and P
are taken as they were sent. A told mount point (rule 0) is :func:`_told_by_operator`.
"""
