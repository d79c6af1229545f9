"""A web server's side that takes nothing on trust: raw sockets, records made and read by the specification alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.protocol.wire import (
    END,
    GET_VALUES,
    GET_VALUES_RESULT,
    PARAMS,
    STDERR,
    STDOUT,
    begin,
    block,
    parse,
    record,
    stream,
)
from tests.servers.support import HEAD, KINDS, kinds
from tests.support.webserver import Record, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.servers.support import Handler, Running
    from tests.support.webserver import Response

SHELLS = [kind for kind in KINDS if kind.name in {"sync", "threads", "asyncio", "uvloop"}]
CONCURRENT = kinds("threads", "asyncio", "uvloop")
"""For cases in which one handler waits for what happens to another."""

QUESTION = record(GET_VALUES, 0)
"""It asks for nothing, and is answered all the same."""


class Peer(WebServer):
    """One connection; every record that comes is whole, aligned and where it may stand."""

    def __init__(self, running: Running) -> None:
        super().__init__(running.address)
        self.running = running

    def record(self) -> Record:
        """The next record."""
        header = self._read(8)
        rest = self._read(int.from_bytes(header[4:6], "big") + header[6])
        (answer,) = parse(header + rest)
        return Record(*answer, padding=header[6])

    def records_that_have_come(self) -> list[Record]:
        """Those that are here, whole, when the socket is readable; what is there in part waits for the next call."""
        data = self.socket.recv(65_536)
        assert data, "the application closed the connection"
        self._buffer += data
        records = []
        while (buffer := self._buffer)[7:] and len(buffer) >= 8 + int.from_bytes(buffer[4:6], "big") + buffer[6]:
            records.append(self.record())
        return records

    def responses(self, ids: Iterable[int]) -> dict[int, Response]:
        """The whole responses to several requests."""
        responses = super().responses(ids)
        for response in responses.values():
            check_streams(response)
        return responses

    def refusal(self, request_id: int) -> int | None:
        """The protocol status of a request that is answered with its end alone."""
        response = self.response(request_id)
        assert [record.type for record in response.records] == [END]
        return response.protocol_status

    def is_quiet(self) -> bool:
        """Whether the connection is open, and nothing has come but the answer to a question."""
        self.send(QUESTION)
        return self.record() == Record(GET_VALUES_RESULT, 0, b"")


def check_streams(response: Response) -> None:
    """The grammar of an answer: streams that end where they have begun, and FCGI_END_REQUEST behind them (3.3, 6.1)."""
    letters = {STDOUT: "o", STDERR: "e", END: "x"}
    shape = "".join(
        letters[record.type].upper() if record.content else letters[record.type] for record in response.records
    )
    assert re.fullmatch("[^X]*X", shape), shape
    assert re.fullmatch("(E+e)?", re.sub("[^Ee]", "", shape)), shape
    # FCGI_STDOUT is ended even if it is empty; a request that was refused or aborted may have none.
    assert re.fullmatch("O*o" if shape not in {"X", "EeX"} else "", re.sub("[^Oo]", "", shape)), shape
    assert response.records[-1].content[5:] == bytes(3)


def begun(request_id: int, name: bytes = b"", *, keep: bool = True) -> bytes:
    """A request whose body is still to come."""
    return begin(request_id, keep=keep) + stream(PARAMS, request_id, block([(b"NAME", name)]))


async def echo(h: Handler) -> None:
    """Answer with the name and the body."""
    await h.write(HEAD + h.environ.get("NAME", "").encode() + await h.read())


def connect(running: Running) -> Peer:
    """A connection, closed with the test."""
    return running.resources.enter_context(Peer(running))


def pairs_in(content: bytes) -> list[tuple[bytes, bytes]]:
    """The name-value pairs in `content`, whose lengths all take one byte."""
    pairs: list[tuple[bytes, bytes]] = []
    while content:
        name, value = content[0], content[1]
        assert max(name, value) < 128
        assert len(content) >= 2 + name + value
        pairs.append((content[2 : 2 + name], content[2 + name : 2 + name + value]))
        content = content[2 + name + value :]
    return pairs
