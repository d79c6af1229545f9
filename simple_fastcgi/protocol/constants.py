"""The numbers of the FastCGI 1.0 specification (its section 8), under the names it gives them."""

from __future__ import annotations

FCGI_VERSION_1 = 1
FCGI_HEADER_LEN = 8
FCGI_MAX_LENGTH = 0xFFFF
FCGI_NULL_REQUEST_ID = 0

# Record types.
FCGI_BEGIN_REQUEST = 1
FCGI_ABORT_REQUEST = 2
FCGI_END_REQUEST = 3
FCGI_PARAMS = 4
FCGI_STDIN = 5
FCGI_STDOUT = 6
FCGI_STDERR = 7
FCGI_DATA = 8
FCGI_GET_VALUES = 9
FCGI_GET_VALUES_RESULT = 10
FCGI_UNKNOWN_TYPE = 11
FCGI_MAXTYPE = FCGI_UNKNOWN_TYPE

# Flags of FCGI_BeginRequestBody.
FCGI_KEEP_CONN = 1

# Roles.
FCGI_RESPONDER = 1
FCGI_AUTHORIZER = 2
FCGI_FILTER = 3

# protocolStatus of FCGI_EndRequestBody.
FCGI_REQUEST_COMPLETE = 0
FCGI_CANT_MPX_CONN = 1
FCGI_OVERLOADED = 2
FCGI_UNKNOWN_ROLE = 3

# Variable names of FCGI_GET_VALUES and FCGI_GET_VALUES_RESULT.
FCGI_MAX_CONNS = "FCGI_MAX_CONNS"
FCGI_MAX_REQS = "FCGI_MAX_REQS"
FCGI_MPXS_CONNS = "FCGI_MPXS_CONNS"

ROLE_STREAMS: dict[int, tuple[int, ...]] = {
    FCGI_RESPONDER: (FCGI_PARAMS, FCGI_STDIN),
    FCGI_AUTHORIZER: (FCGI_PARAMS,),
    FCGI_FILTER: (FCGI_PARAMS, FCGI_STDIN, FCGI_DATA),
}
"""The input streams of each role, in the order in which they come (section 6)."""

_RECORD_NAMES = (
    "FCGI_BEGIN_REQUEST",
    "FCGI_ABORT_REQUEST",
    "FCGI_END_REQUEST",
    "FCGI_PARAMS",
    "FCGI_STDIN",
    "FCGI_STDOUT",
    "FCGI_STDERR",
    "FCGI_DATA",
    "FCGI_GET_VALUES",
    "FCGI_GET_VALUES_RESULT",
    "FCGI_UNKNOWN_TYPE",
)


def record_name(type_: int) -> str:
    """The name of a record's type and its number, for people: ``FCGI_STDOUT (type 6)``."""
    known = FCGI_BEGIN_REQUEST <= type_ <= FCGI_MAXTYPE
    return f"{_RECORD_NAMES[type_ - 1]} (type {type_})" if known else f"a record of type {type_}"
