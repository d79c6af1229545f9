"""What answers HTTP: it hands requests to the application, or holds them while that is started anew."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from typing import TYPE_CHECKING

from .page import WAIT_HEADER, failure_page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from typing import Any

    from .terminal import Terminal

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

_NOT_LOCAL = b"403 Forbidden: with --debug this answers under localhost and IP addresses only, not under other names\n"
_CUT = b"503 Service Unavailable: the application was started anew before it had answered (--graceful-timeout)\n"


class Front:
    """An ASGI application around `proxy`, which knows at any time whether there is an application behind that.

    :meth:`hold`, :meth:`serve` and :meth:`fail` say what happens to requests from then on: they wait, they are handed
    on, or they are answered with why the application does not run. Each request gets its line in `terminal` when it
    has ended. Nothing is found outside of `root_path`. `private`: only this machine can see the answers; `reloads`: a
    change of the code ends a failure; `debug`: what the application answers is for its developer alone.

    A page of anybody's can have its own name point at this machine (DNS rebinding), and then read the answers: so
    tracebacks are shown under a host that no name server tells of, and with `debug` nothing is answered under others.
    """

    def __init__(
        self, proxy: App, terminal: Terminal, *, root_path: str, private: bool, reloads: bool, debug: bool = False
    ) -> None:
        self._proxy = proxy
        self._terminal = terminal
        self._root_path = root_path
        self._private = private
        self._reloads = reloads
        self._debug = debug
        self._failure: tuple[str, str] | None = None
        self._settled = asyncio.Event()
        self._served = asyncio.Event()
        self._tasks: dict[_Exchange, asyncio.Task[Any] | None] = {}
        # Those that the application has; and of these, those that are waited for before it is replaced.
        self._handed_on: set[_Exchange] = set()
        self._under_way: set[_Exchange] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._ending = False

    def hold(self) -> None:
        """Let requests wait."""
        self._settled.clear()

    def serve(self) -> None:
        """Hand requests on, those first that wait."""
        self._failure = None
        self._settled.set()
        # Whoever has waited for a new start has it now.
        self._served.set()
        self._served = asyncio.Event()

    def fail(self, title: str, text: str) -> None:
        """Answer requests with this failure."""
        self._failure = (title, text)
        self._settled.set()

    async def quiet(self, seconds: float) -> None:
        """Wait until no request is under way; for `seconds` at most, and for event streams, which never end, not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()

    def cut(self) -> None:
        """Abort the requests that the application has; not those that wait for the next one."""
        self._abort(self._handed_on)

    def end(self) -> None:
        """Abort everything, also what waits; it is no news."""
        self._ending = True
        self._abort(self._tasks)

    def _abort(self, exchanges: Iterable[_Exchange]) -> None:
        for exchange in exchanges:
            task = self._tasks[exchange]
            if task is not None and not exchange.note:
                exchange.note = "cut off"
                task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if any(name == WAIT_HEADER for name, _ in scope["headers"]):
            await self._wait_for_start(receive, send)
            return
        exchange = _Exchange(send, self._ended_or_streams)
        self._tasks[exchange] = asyncio.current_task()
        try:
            await self._settled.wait()
            if self._failure is not None:
                await self._answer_with_failure(scope, exchange.send, *self._failure)
                return
            if self._debug and not _is_local(scope):
                await _answer(exchange.send, 403, b"text/plain; charset=utf-8", _NOT_LOCAL)
                return
            path: str = scope["path"]
            if not f"{path.encode().decode('latin-1')}/".startswith(f"{self._root_path}/"):
                text = f"404 Not Found: the application is mounted at {self._root_path}/\n"
                await _answer(exchange.send, 404, b"text/plain; charset=utf-8", text.encode("latin-1"))
                return
            self._handed_on.add(exchange)
            self._under_way.add(exchange)
            self._quiet.clear()
            await self._proxy(scope, receive, exchange.send)
        except asyncio.CancelledError:
            if not exchange.note:
                raise
            if exchange.status is not None or self._ending:
                return
            if self._failure is not None:
                await self._answer_with_failure(scope, exchange.send, *self._failure)
            else:
                await _answer(exchange.send, 503, b"text/plain; charset=utf-8", _CUT)
        except Exception:
            # The proxy has logged it. A response that is not complete is cut by the HTTP server.
            exchange.note = "cut off"
        finally:
            del self._tasks[exchange]
            self._handed_on.discard(exchange)
            self._ended_or_streams(exchange)
            if not self._ending:
                self._tell(scope, exchange)

    def _ended_or_streams(self, exchange: _Exchange) -> None:
        self._under_way.discard(exchange)
        if not self._under_way:
            self._quiet.set()

    def _tell(self, scope: Scope, exchange: _Exchange) -> None:
        note = exchange.note or ("" if exchange.complete else "the client left")
        target: bytes = scope.get("raw_path") or scope["path"].encode()
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        seconds = time.perf_counter() - exchange.began
        self._terminal.request(scope["method"], target, exchange.status, exchange.size, seconds, note)

    async def _answer_with_failure(self, scope: Scope, send: Send, title: str, text: str) -> None:
        accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        if self._reloads:
            hint = "This page comes back to life when the code has changed."
        else:
            hint = "Start the development server again when the code has changed."
        shown = self._private and _is_local(scope)
        kind, body = failure_page(title, text, hint=hint, html=b"text/html" in accepts, shown=shown)
        await _answer(send, 503, kind, body)

    async def _wait_for_start(self, receive: Receive, send: Send) -> None:
        if self._failure is not None:
            served = asyncio.create_task(self._served.wait())
            left = asyncio.create_task(_disconnected(receive))
            try:
                await asyncio.wait([served, left], return_when=asyncio.FIRST_COMPLETED)
            finally:
                served.cancel()
                left.cancel()
        await send({"type": "http.response.start", "status": 204, "headers": [(b"cache-control", b"no-store")]})
        await send({"type": "http.response.body", "body": b""})


def _is_local(scope: Scope) -> bool:
    """Whether the Host is an address or a name that no name server is asked for (RFC 6761, 6.3)."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    # Browsers always send one.
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _answer(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Exchange:
    """What is known of a response on its way."""

    def __init__(self, send: Send, is_endless: Callable[[_Exchange], None]) -> None:
        self.began = time.perf_counter()
        self.status: int | None = None
        self.size = 0
        self.complete = False
        self.note = ""
        self._send = send
        self._is_endless = is_endless

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if any(name == b"content-type" and b"event-stream" in value for name, value in message["headers"]):
                self._is_endless(self)
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        await self._send(message)
