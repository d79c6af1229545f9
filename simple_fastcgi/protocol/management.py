"""Management records: what a web server asks of the application and not of a request (section 4)."""

from __future__ import annotations

from ..errors import ProtocolError
from .constants import (
    FCGI_BEGIN_REQUEST,
    FCGI_DATA,
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_MAX_CONNS,
    FCGI_MAX_LENGTH,
    FCGI_MAX_REQS,
    FCGI_MAXTYPE,
    FCGI_MPXS_CONNS,
    FCGI_NULL_REQUEST_ID,
)
from .pairs import decode_pairs, encode_pairs
from .records import encode_record, encode_unknown_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..limits import Limits


def answer_to(type_: int, content: bytes, limits: Limits, *, concurrent: bool) -> bytes:
    """The record that answers the one of `type_` with id 0 and `content`.

    That is FCGI_GET_VALUES_RESULT (4.1), or FCGI_UNKNOWN_TYPE (4.2) to a type that FastCGI 1.0 does not know. `limits`
    and `concurrent` are the connection's. Raises ProtocolError for a type that needs the id of a request, for one that
    only an application sends, and for FCGI_GET_VALUES with content that is no name-value pairs.
    """
    if type_ == FCGI_GET_VALUES:
        asked, _ = decode_pairs(content, FCGI_MAX_LENGTH)
        pairs = [(name, value) for name, value in values(limits, concurrent=concurrent) if name in asked]
        return encode_record(FCGI_GET_VALUES_RESULT, FCGI_NULL_REQUEST_ID, encode_pairs(pairs))
    if FCGI_BEGIN_REQUEST <= type_ <= FCGI_DATA:
        raise ProtocolError(f"a record of type {type_} needs a request id, it came with 0")
    if type_ < FCGI_BEGIN_REQUEST or type_ > FCGI_MAXTYPE:
        return encode_unknown_type(type_)
    raise ProtocolError(f"a record of type {type_}, which only an application sends, came from the web server")


def values(limits: Limits, *, concurrent: bool) -> tuple[tuple[str, str], ...]:
    """All that FCGI_GET_VALUES can ask for (4.1)."""
    # HAProxy takes FCGI_MAX_REQS for a connection's, and so it is meant here.
    requests = limits.max_requests_per_connection
    return (
        (FCGI_MAX_CONNS, str(limits.max_connections)),
        (FCGI_MAX_REQS, str(requests)),
        (FCGI_MPXS_CONNS, "1" if requests > 1 and concurrent else "0"),
    )
