"""What the parameters of a Filter tell about the file that comes as FCGI_DATA (FastCGI 1.0, section 6.4)."""

from __future__ import annotations

from .request import MAX_LENGTH_DIGITS, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def data_length(params: Mapping[str, str]) -> int | None:
    """The file's length in bytes (FCGI_DATA_LENGTH), None if the web server does not tell it in plain digits."""
    return number(params.get("FCGI_DATA_LENGTH", ""), MAX_LENGTH_DIGITS)


def data_last_mod(params: Mapping[str, str]) -> int | None:
    """When the file was modified (FCGI_DATA_LAST_MOD), in seconds since 1970 UTC; None as for the length."""
    return number(params.get("FCGI_DATA_LAST_MOD", ""), MAX_LENGTH_DIGITS)
