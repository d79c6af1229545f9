"""What is sent, made of what was typed: the parameters, and the body."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from urllib.parse import quote, quote_plus

from ... import __version__
from ...cgi.params import HOP_BY_HOP, ParamsBuilder
from ...errors import ConfigurationError
from . import status
from .body import Body, file_part, measured_part
from .form import form_parts
from .status import CallError
from .url import parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from .body import FilePart
    from .url import Url

    Headers = list[tuple[bytes, bytes]]

_LINE_ENDS = b"\r\n\0"
# What ParamsBuilder, like nginx, lets pass.
_PASSED_NAME = re.compile(r"[-0-9A-Za-z]+")
_FORM_TYPE = "application/x-www-form-urlencoded"


class Request:
    """A request: `params` as :meth:`.Exchange` takes them, and `body`, to be closed."""

    __slots__ = ("body", "params", "url")

    def __init__(self, params: dict[str, str], body: Body, url: Url) -> None:
        self.params = params
        self.body = body
        self.url = url


def make_request(arguments: Namespace) -> Request:
    """The request that the command line describes; CallError for what cannot be one."""
    url = parse_url(arguments.url)
    # What contradicts itself is told before anything is read.
    builder = _builder(arguments)
    extra = _extra_params(arguments)
    body, content_type, query = _body(arguments)
    with body.closed_on_errors():
        if query:
            url.with_query(query)
        if arguments.upload_file not in (None, "-") and url.target.endswith(b"/"):
            # As curl: the folder is named, the file keeps its name.
            url.target += quote(os.path.basename(arguments.upload_file), safe="", errors="surrogateescape").encode(
                "ascii"
            )
        headers = _headers(arguments, url, content_type)
        has_length = any(name.lower() == b"content-length" for name, _ in headers)
        length = body.length if (body.parts or arguments.has_body) and not has_length else None
        try:
            params = builder.build(
                _method(arguments),
                url.target,
                headers,
                scheme=url.scheme,
                client=("127.0.0.1", 0),
                server=url.server,
                content_length=length,
                params=extra,
            )
        except ValueError as error:
            raise CallError(status.USAGE, str(error)) from None
    return Request(params, body, url)


def _builder(arguments: Namespace) -> ParamsBuilder:
    try:
        return ParamsBuilder(
            document_root=arguments.document_root,
            script=arguments.script,
            root_path=arguments.root_path,
            index=arguments.index,
            software=f"simple_fastcgi/{__version__}",
        )
    except ConfigurationError as error:
        told = re.sub(r"\b(root_path|document_root|script|index)\b", _as_option, str(error))
        raise CallError(status.USAGE, told) from None


def _as_option(match: re.Match[str]) -> str:
    return "--" + match[0].replace("_", "-")


def _method(arguments: Namespace) -> str:
    if arguments.request is not None:
        return str(arguments.request)
    if arguments.head:
        return "HEAD"
    if arguments.upload_file is not None:
        return "PUT"
    return "POST" if arguments.has_body else "GET"


def _extra_params(arguments: Namespace) -> dict[str, str | bytes | None]:
    extra: dict[str, str | bytes | None] = {}
    for text in arguments.params:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CallError(status.USAGE, f"--param {text!r}: give NAME=VALUE")
        extra[name] = os.fsencode(value)
    for name in arguments.no_params:
        extra[name] = None
    return extra


def _body(arguments: Namespace) -> tuple[Body, str | None, bytes]:
    """The body, its content type, and what becomes of it in the query instead (``-G``)."""
    if arguments.upload_file is not None:
        return Body(file_part(arguments.upload_file)), None, b""
    if arguments.form:
        form_type, form = form_parts(arguments.form)
        return form, form_type, b""
    content_type = _FORM_TYPE if arguments.data else None
    body = Body()
    with body.closed_on_errors():
        for kind, text in arguments.data:
            if kind == "json":
                content_type = "application/json"
            elif body.parts:
                body.append(b"&")
            body.append(_data(kind, text))
    if not arguments.get:
        return body, content_type, b""
    with body:
        return Body(), None, body.read_all()


def _data(kind: str, text: str) -> bytes | FilePart:
    if kind == "urlencode":
        return _urlencoded(text)
    if kind == "raw" or not text.startswith("@"):
        return os.fsencode(text)
    if kind == "data":
        # As curl, which takes such a file for text of one line.
        return measured_part(text[1:], lambda data: data.translate(None, _LINE_ENDS))
    return measured_part(text[1:])


def _urlencoded(text: str) -> bytes:
    """``CONTENT``, ``=CONTENT``, ``NAME=CONTENT``, ``@FILE`` or ``NAME@FILE``, as curl's."""
    name, mark, content = re.fullmatch(r"([^=@]*)([=@]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if not mark:
        name, content = "", name
    data = os.fsencode(content)
    if mark == "@":
        with Body(measured_part(content)) as body:
            data = body.read_all()
    quoted = quote_plus(data, safe="").encode("ascii")
    return os.fsencode(name) + b"=" + quoted if name else quoted


def _headers(arguments: Namespace, url: Url, content_type: str | None) -> Headers:
    """The header fields: those of options, unless -H gives them or takes them away."""
    given: list[tuple[str, str]] = []
    removed: set[str] = set()
    for text in arguments.headers:
        name, value = _header(text)
        if value is None:
            removed.add(name.lower())
        else:
            given.append((name, value))
    fields = [
        ("Host", url.host),
        ("User-Agent", f"simple_fastcgi/{__version__}" if arguments.user_agent is None else arguments.user_agent),
        ("Accept", "application/json" if content_type == "application/json" else "*/*"),
        ("Content-Type", content_type),
        ("Referer", arguments.referer),
        ("Range", None if arguments.range is None else f"bytes={arguments.range}"),
        ("Cookie", "; ".join(_cookie(text) for text in arguments.cookies) or None),
        ("Authorization", _authorization(arguments, url)),
    ]
    removed |= {name.lower() for name, _ in given}
    made = [(name, value) for name, value in fields if value and name.lower() not in removed]
    return [(os.fsencode(name), os.fsencode(value)) for name, value in made + given]


def _header(text: str) -> tuple[str, str | None]:
    """Name and value; None for one that is not to be sent."""
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon:
        if not text.endswith(";") or ":" in text:
            raise CallError(
                status.USAGE, f"-H {text!r}: give 'Name: value', 'Name;' for an empty one, 'Name:' for none"
            )
        name, value = text[:-1], ""
    elif name and not value:
        return name, None
    if not _PASSED_NAME.fullmatch(name):
        raise CallError(
            status.USAGE, f"-H {text!r}: web servers pass on names of letters, digits and dashes; see --param HTTP_..."
        )
    if name.lower().encode("ascii") in HOP_BY_HOP | {b"proxy"}:
        param = "HTTP_" + name.upper().replace("-", "_")
        raise CallError(status.USAGE, f"-H {text!r}: web servers keep this one to themselves; see --param {param}=...")
    return name, value


def _cookie(text: str) -> str:
    if "=" not in text:
        raise CallError(status.USAGE, f"-b {text!r}: give NAME=VALUE; files of cookies are not read")
    return text


def _authorization(arguments: Namespace, url: Url) -> str | None:
    user = url.userinfo if arguments.user is None else arguments.user
    if user is None:
        return None
    if ":" not in user:
        if arguments.user is not None:
            raise CallError(status.USAGE, f"-u {user!r}: give USER:PASSWORD; nobody is asked for a password")
        user += ":"
    return "Basic " + b64encode(os.fsencode(user)).decode("ascii")
