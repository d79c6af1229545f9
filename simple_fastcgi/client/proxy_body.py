"""The body of a request that comes over ASGI, in pieces or spooled."""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Any

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# What is spooled stays in memory up to here, in bytes.
_IN_MEMORY = 256 * 1024
_PIECE = 65536


class ClientGoneError(ConnectionError):
    """The client hung up before its request was whole."""


class BodyTooLargeError(ValueError):
    """More was to be spooled than is granted."""


class RequestBody:
    """Takes a request's body from `receive`. After :meth:`begin` or :meth:`spool` it tells.

    `first`: what has come, as far as it is in memory. `whole`: all of it has come. `gone`: the client has hung up.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._file: IO[bytes] | None = None
        self.first = b""
        self.whole = False
        self.gone = False

    @property
    def in_memory(self) -> bool:
        """`first` is all of it: it can be sent again. Of no meaning once :meth:`piece` was asked."""
        return self.whole and self._file is None

    async def begin(self) -> None:
        """Wait for the first message. Raises ClientGoneError."""
        self.first = await self._next()

    async def spool(self, most: int) -> int:
        """Wait for all of it, in a file if it is large; its length in bytes. BodyTooLargeError beyond `most`."""
        pieces, size, held = [self.first], len(self.first), 0
        while True:
            if size > most:
                raise BodyTooLargeError
            if self.whole:
                break
            pieces.append(await self._next())
            size += len(pieces[-1])
            held += len(pieces[-1])
            if held > _IN_MEMORY:
                await to_thread.run_sync(self._write, pieces)
                pieces, held = [], 0
        self.first = b""
        if self._file is None:
            self.first = b"".join(pieces)
        else:
            await to_thread.run_sync(self._write, pieces)
            await to_thread.run_sync(self._file.seek, 0)
        return size

    async def piece(self) -> bytes | None:
        """The next piece, perhaps an empty one; None behind the last one. Raises ClientGoneError."""
        if self._file is not None:
            return await to_thread.run_sync(self._file.read, _PIECE) or None
        if self.first:
            first, self.first = self.first, b""
            return first
        if self.whole:
            return None
        return await self._next()

    async def disconnected(self) -> None:
        """Wait until the client has gone."""
        while not self.gone:
            message = await self._receive()
            self.gone = message["type"] == "http.disconnect"

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - see close
        self._file.writelines(pieces)

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientGoneError("the client has gone")
        self.whole = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body
