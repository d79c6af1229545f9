"""The answers of an Authorizer (FastCGI 1.0, section 6.3), as heads of CGI responses."""

from __future__ import annotations

from ..protocol.constants import FCGI_AUTHORIZER
from .response import document_fields, encode_head, status_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .response import Field

ROLES: tuple[int, ...] = (FCGI_AUTHORIZER,)
"""Those of an Authorizer.

The mixins do not declare their `roles` beside the handler's: a class whose bases both do is refused by pyright if it
has roles of its own.
"""
_OK = 200
_PREFIX = "Variable-"


def encode_allow(
    variables: Mapping[str, str] | Iterable[Field] = (), extra_headers: Iterable[Field | str] = ()
) -> bytes:
    """The answer that grants access: status 200, and a ``Variable-NAME: value`` field for each of `variables`.

    Values are sent as UTF-8 with surrogateescape, the way :func:`~.environ.native_environ` reads them. No
    Content-Type: web servers take no content from this answer. ValueError for what is no variable or field.
    """
    pairs = variables.items() if hasattr(variables, "items") else variables
    return encode_head(status_line(_OK), [*map(_variable, pairs), *document_fields("", extra_headers)])


def encode_denial(code: int, mime_type: str, extra_headers: Iterable[Field | str]) -> bytes:
    """The head of an answer that refuses access and goes to the client; ValueError for 200, which grants it.

    lighttpd ignores all fields, a Location too, that stand before a Status that is not 200.
    """
    if code == _OK:
        raise ValueError("deny: 200 is the status that grants access, give another one (403, 401, 302, ...)")
    return encode_head(status_line(code), document_fields(mime_type, extra_headers), status_first=True)


def _variable(pair: object) -> Field:
    if isinstance(pair, tuple | list) and len(pair) == 2:
        name, value = pair
        if isinstance(name, str) and name and isinstance(value, str):
            # One character per byte, as heads are written.
            return _PREFIX + name, value.encode("utf-8", "surrogateescape").decode("latin-1")
    raise ValueError(f"variables: {pair!r} is no (name, value) pair of str with a name that is not empty")
