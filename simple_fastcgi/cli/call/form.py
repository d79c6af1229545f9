"""``-F``: forms with files (RFC 7578), as browsers send them."""

from __future__ import annotations

import os
import re

from . import status
from .body import Body, measured_part
from .status import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .body import FilePart

_OPTION = re.compile(r';\s*(type|filename)=("(?:[^"\\]|\\.)*"|[^;]*)')


def form_parts(fields: Iterable[tuple[str, str]]) -> tuple[str, Body]:
    """The content type and the body of a form; `fields` are ``("form", "NAME=VALUE")`` as they are typed.

    A value may be ``@FILE`` (an upload) or ``<FILE`` (its content), with ``;type=...`` and ``;filename=...`` behind it;
    as ``("string", "NAME=VALUE")`` it is nothing but itself.
    """
    boundary = f"------------------------{os.urandom(12).hex()}"
    body = Body()
    with body.closed_on_errors():
        for kind, text in fields:
            head, content = _field(kind, text)
            for part in (f"--{boundary}\r\n{head}\r\n".encode("utf-8", "surrogateescape"), content, b"\r\n"):
                body.append(part)
    body.append(f"--{boundary}--\r\n".encode("ascii"))
    return f"multipart/form-data; boundary={boundary}", body


def _field(kind: str, text: str) -> tuple[str, bytes | FilePart]:
    """The header fields and the content of what `text` says."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CallError(status.USAGE, f"-F {text!r}: give NAME=VALUE, NAME=@FILE or NAME=<FILE")
    options: dict[str, str] = {}
    if kind == "form":
        options = {option[1]: _plain(option[2]) for option in _OPTION.finditer(value)}
        value = _plain(_OPTION.sub("", value))
    source = value[:1] if kind == "form" else ""
    content_type = options.get("type")
    head = f'Content-Disposition: form-data; name="{_escaped(name)}"'
    if source == "@" or "filename" in options:
        filename = options.get("filename", os.path.basename(value[1:]))
        head += f'; filename="{_escaped(filename)}"'
        content_type = content_type or _guessed(filename)
    if content_type:
        if "\n" in content_type or "\r" in content_type:
            raise CallError(status.USAGE, f"-F {text!r}: a line end in its type")
        head += f"\r\nContent-Type: {content_type}"
    return f"{head}\r\n", measured_part(value[1:]) if source and source in "@<" else os.fsencode(value)


def _plain(text: str) -> str:
    """`text` without the quotes around it."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _escaped(name: str) -> str:
    """As browsers do (HTML's multipart/form-data encoding algorithm)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _guessed(filename: str) -> str:
    from mimetypes import guess_type

    return guess_type(filename)[0] or "application/octet-stream"
