"""``-v``: the records of a connection, a line for each, as they pass."""

from __future__ import annotations

from ...errors import ProtocolError
from ...protocol.constants import (
    FCGI_BEGIN_REQUEST,
    FCGI_END_REQUEST,
    FCGI_GET_VALUES,
    FCGI_GET_VALUES_RESULT,
    FCGI_HEADER_LEN,
    FCGI_KEEP_CONN,
    FCGI_PARAMS,
    FCGI_STDERR,
    FCGI_STDIN,
    FCGI_STDOUT,
    FCGI_UNKNOWN_TYPE,
    FCGI_VERSION_1,
    record_name,
)
from ...protocol.pairs import decode_pairs
from ...protocol.records import BEGIN_REQUEST_BODY, END_REQUEST_BODY, HEADER
from .status import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...protocol.records import Buffer

_ROLES = {1: "responder", 2: "authorizer", 3: "filter"}
_STATUSES = ("FCGI_REQUEST_COMPLETE", "FCGI_CANT_MPX_CONN", "FCGI_OVERLOADED", "FCGI_UNKNOWN_ROLE")
_STREAMS = (FCGI_PARAMS, FCGI_STDIN, FCGI_STDOUT, FCGI_STDERR)
# Records whose content is told, not only its size.
_TOLD = (FCGI_BEGIN_REQUEST, FCGI_END_REQUEST, FCGI_PARAMS, FCGI_GET_VALUES, FCGI_GET_VALUES_RESULT, FCGI_UNKNOWN_TYPE)


class RecordLog:
    """Tells the records of one direction, in any slicing; `arrow` is ``>`` for what is sent, ``<`` for what came.

    It looks at the bytes themselves, and believes nothing: from the first that begin no record on it says no more.
    """

    __slots__ = ("_arrow", "_body", "_broken", "_header", "_left", "_padding", "_params", "_tell", "_type")

    def __init__(self, arrow: str, tell: Callable[[str], None]) -> None:
        self._arrow = arrow
        self._tell = tell
        self._header = b""
        self._type = self._left = self._padding = 0
        self._body = bytearray()
        self._params = bytearray()
        self._broken = False

    def split(self, data: Buffer) -> Iterator[Buffer]:
        """`data` in pieces that each end with a record if not with `data`; its line is told just before."""
        position, start = 0, 0
        while position < len(data) and not self._broken:
            if not self._left and not self._padding:
                part = bytes(data[position : position + FCGI_HEADER_LEN - len(self._header)])
                self._header += part
                position += len(part)
                if self._header[0] != FCGI_VERSION_1:
                    self._broken = True
                    self._tell(f"{self._arrow} no record: {shown(bytes(data[start : start + 64]))}")
                elif len(self._header) == FCGI_HEADER_LEN:
                    self._begin()
            else:
                position = self._pass(data, position)
            if not self._left and not self._padding and not self._header and position > start:
                yield data[start:position]
                start = position
        if start < len(data):
            yield data[start:]

    def _begin(self) -> None:
        _, self._type, request_id, self._left, self._padding = HEADER.unpack(self._header)
        self._header = b""
        self._body.clear()
        if self._type in _STREAMS:
            if self._type == FCGI_PARAMS and not self._left:
                self._tell_pairs(self._params)
                self._params.clear()
            self._line(self._type, f" {_bytes(self._left)}" if self._left else " end")
        elif self._type not in _TOLD:
            self._line(self._type, f" id={request_id}, {_bytes(self._left)}")
        elif not self._left:
            self._line(self._type, "")
        else:
            self._body += request_id.to_bytes(2)

    def _pass(self, data: Buffer, position: int) -> int:
        if not self._left:
            skipped = min(self._padding, len(data) - position)
            self._padding -= skipped
            return position + skipped
        size = min(self._left, len(data) - position)
        if self._type == FCGI_PARAMS:
            self._params += data[position : position + size]
        elif self._type in _TOLD:
            self._body += data[position : position + size]
        self._left -= size
        if not self._left and self._type in _TOLD and self._type != FCGI_PARAMS:
            self._tell_record(int.from_bytes(self._body[:2]), bytes(self._body[2:]))
        return position + size

    def _tell_record(self, request_id: int, body: bytes) -> None:
        type_ = self._type
        if type_ == FCGI_BEGIN_REQUEST and len(body) == BEGIN_REQUEST_BODY.size:
            role, flags = BEGIN_REQUEST_BODY.unpack(body)
            told = f" id={request_id} {_ROLES.get(role, role)} keep_conn={flags & FCGI_KEEP_CONN}"
        elif type_ == FCGI_END_REQUEST and len(body) == END_REQUEST_BODY.size:
            app_status, protocol_status = END_REQUEST_BODY.unpack(body)
            name = _STATUSES[protocol_status] if protocol_status < len(_STATUSES) else "unknown"
            told = f" id={request_id} app_status={app_status} protocol_status={protocol_status} ({name})"
        elif type_ == FCGI_UNKNOWN_TYPE:
            told = f" type={body[0]}"
        else:
            told = f" {_bytes(len(body))}"
        self._line(type_, told)
        if type_ in (FCGI_GET_VALUES, FCGI_GET_VALUES_RESULT):
            self._tell_pairs(body)

    def _tell_pairs(self, content: bytes | bytearray) -> None:
        try:
            pairs, _ = decode_pairs(content, len(content))
        except ProtocolError as error:
            self._tell(f"{self._arrow}   no name-value pairs: {shown(str(error))}")
            return
        for name, value in pairs.items():
            self._tell(f"{self._arrow}   {shown(name.encode('latin-1'))}={shown(value.encode('latin-1'))}")

    def _line(self, type_: int, told: str) -> None:
        self._tell(f"{self._arrow} {record_name(type_).partition(' (')[0]}{told}")


def _bytes(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"
