"""`AsgiHandler`: runs an ASGI 3 application (HTTP and lifespan)."""

from __future__ import annotations

import os

from ..aio.handler import AsyncFcgiHandler
from ..aio.request import ABORTED
from ..cgi.asgi import http_scope
from ..cgi.environ import describe_request
from ..cgi.response import as_bytes
from ..errors import ConfigurationError
from ..log import about, logger
from .asgi_head import encode_asgi_head
from .body import report_short_body
from .response import BodyCounter, BodyLengthError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Handle
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from typing import Any, NoReturn, Self

    from ..aio.request import AsyncFcgiRequest
    from .lifespan import Mode

    Message = dict[str, Any]
    AsgiApplication = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]

# One message's body at most.
_MOST_BODY = 1 << 20
# How long an application may go on sending a body that nobody wants.
_PATIENCE_SECONDS = 2.0
_DISCONNECT = "http.disconnect"


class AsgiHandler(AsyncFcgiHandler):
    """Runs an ASGI application; :meth:`for_app` makes the handler class of one."""

    # What each request needs; an attribute that hides its class's is found in several times the time. Python 3.13
    # wants all of them here: objects with slots have no room for others at hand.
    __slots__ = (
        "_bodyless",
        "_flows",
        "_head",
        "_length",
        "_received",
        "_started",
        "_undivided",
        "_unread",
        "_whole",
        "client_address",
        "request",
        "server",
    )

    _needs_app = True
    app: AsgiApplication
    """The application, as a staticmethod."""
    root_path: str | None = None
    """The mount point if the operator tells it, as :func:`~simple_fastcgi.cgi.paths.normalize_root_path` gives it."""
    lifespan_mode: Mode = "auto"
    """Whether the lifespan protocol is spoken: "auto", "on" or "off"."""
    unbuffered_events: bool = True
    """Tell nginx not to buffer text/event-stream (``X-Accel-Buffering: no``)."""
    state: dict[str, Any] | None = None
    """What the application's lifespan left for its requests."""
    lifespan_error: BaseException | None = None
    """What the application's lifespan, which has ended, failed with."""

    # The body's promised length; set when the response has started.
    _length: int | None

    # How far one request has come: most of this stays as it is here. First, of a body in several parts.
    _body: BodyCounter | None = None
    _early_head: Handle | None = None
    # The status tells of an error in the application.
    _failing = False
    # The application is told that no more comes, although it might.
    _disconnected = False
    # The loop's time until which the body of a response is passed over that is complete without one.
    _passes_over_until: float | None = None

    def __init__(self, request: AsyncFcgiRequest, client_address: object, server: Any) -> None:
        # As the base class does; to ask it to takes longer than to do it.
        self.request = request
        self.client_address = client_address
        self.server = server
        self._started = False
        # The response's head until it is sent.
        self._head = b""
        # The length of a body that can be sent with its head if it comes at once; of many responses there is none.
        self._undivided = -1
        # The response never has a body: what the application sends of one is thrown away.
        self._bodyless = False
        # A part of a body without a promised length was sent: the next one has only to be written.
        self._flows = False
        # All of the response was sent.
        self._whole = False
        # Bytes of the request's body that were told, and whether its end was not told yet.
        self._received = 0
        self._unread = True

    @classmethod
    def for_app(
        cls,
        app: Callable[..., Any],
        *,
        root_path: str | None = None,
        lifespan: Mode = "auto",
        unbuffered_events: bool = True,
    ) -> type[Self]:
        """A handler class that runs `app`, to be given to a server. The settings are those above.

        An application of ASGI 2, a double callable, is adapted by asgiref (the extra ``asgi2``). Raises
        ConfigurationError if that is missing, ValueError for a `root_path` that cannot be one.
        """
        from ..cgi.paths import normalize_root_path

        if _is_double_callable(app):
            app = _single_callable(app)
        return type(
            cls.__name__,
            (cls,),
            {
                "app": staticmethod(app),
                "root_path": None if root_path is None else normalize_root_path(root_path),
                "lifespan_mode": lifespan,
                "unbuffered_events": unbuffered_events,
            },
        )

    @classmethod
    def lifespan(cls, server: object) -> AbstractAsyncContextManager[object]:
        """The application's lifespan; see :class:`~simple_fastcgi.gateways.lifespan.Lifespan`."""
        return _StateKeeper(cls)

    def handle(self) -> Coroutine[Any, Any, None]:
        """Call the application, which sends what it answers."""
        core = self.request.core
        scope = http_scope(core.params, core.repeated, self.root_path, core.layout)
        if self.state is not None:
            scope["state"] = self.state.copy()
        if scope["method"] == "HEAD":
            self._bodyless = True
        # No coroutine around the application's own, which would be made for each request.
        return self.app(scope, self.receive, self.send)

    def _handled(self) -> None:
        """RuntimeError, unless the application has sent all, or nobody wants it any more."""
        if not self._whole and not self.request.core.aborted:
            what = "in the middle of its response" if self._started else "without a response"
            raise RuntimeError(f"the application returned {what}")
        super()._handled()

    async def receive(self) -> Message:
        """ASGI's `receive`: the next part of the body.

        ``http.disconnect`` when the web server aborts, and behind the response.
        """
        request = self.request
        core = request.core
        stdin = core.stdin
        while not (core.aborted or core.ended or self._disconnected):
            if self._unread and (stdin.ended or stdin.buffered):
                body = request.take(_MOST_BODY) if stdin.buffered else b""
                self._received += len(body)
                if stdin.buffered or not stdin.ended:
                    return {"type": "http.request", "body": body, "more_body": True}
                self._unread = False
                if (told := core.params.get("CONTENT_LENGTH")) and told != str(self._received):
                    report_short_body(core.params, self._received)
                return {"type": "http.request", "body": body, "more_body": False}
            try:
                # Behind the body an application may wait for the disconnect as long as it likes.
                await request.wait_for_change(request.connection.core.limits.read_timeout if self._unread else None)
            except TimeoutError as error:
                logger().warning(
                    "%s: %s; the application is told of a disconnect",
                    *(describe_request(core.params), error),
                    extra=about("read_timeout", request.log_fields()),
                )
                self._disconnected = True
        return {"type": _DISCONNECT}

    async def send(self, message: Message) -> None:
        """ASGI's `send`: a part of the response.

        ConnectionAbortedError, which is an OSError, when the web server has gone, or waits for no body.
        """
        request = self.request
        core = request.core
        kind = message["type"]
        if core.aborted or core.ended:
            if self._passes_over_until is None or core.aborted:
                self._refuse(kind)
            await self._pass_over(message, self._passes_over_until)
        elif kind == "http.response.body":
            data = message.get("body", b"")
            more = message.get("more_body")
            if not more and type(data) is bytes and len(data) == self._undivided:
                # Nearly always.
                self._whole = True
                request.end_with(self._head + data)
                return
            if more and self._flows and type(data) is bytes:
                # An event, mostly: nothing is promised of a stream, and its head has left.
                if request.write_now(data):
                    await request.flush()
                return
            self._send_part(data, more=bool(more))
            if not self._whole and (request.connection.paused is not None or core.aborted):
                await request.flush()
        elif kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.pathsend":
            await self._send_path(message["path"])
        else:
            raise RuntimeError(f"{kind!r} is not a message that can be sent here")

    def _refuse(self, kind: str) -> NoReturn:
        if self.request.core.aborted:
            raise ConnectionAbortedError(ABORTED)
        raise RuntimeError(f"{kind} was sent behind the end of the response")

    async def _pass_over(self, message: Message, until: float) -> None:
        """A part of a body that nobody wants, whose response is complete since its first one.

        An application that has not come to its end by `until` learns that nobody listens as when a visitor leaves:
        most are done by then and, with what they do behind the response, never know.
        """
        kind = message["type"]
        if kind not in ("http.response.body", "http.response.pathsend"):
            self._refuse(kind)
        if kind == "http.response.pathsend" or not message.get("more_body"):
            self._whole = True
            self._passes_over_until = None
        elif self.request.connection.loop.time() > until:
            self.request.dismiss()
            raise ConnectionAbortedError("the response has no body, and was complete long ago")
        else:
            # As where it is written: nothing else may make the application wait.
            from asyncio import sleep

            await sleep(0)

    def _start(self, message: Message) -> None:
        if self._started:
            if self._whole:
                self._refuse("http.response.start")
            raise RuntimeError("http.response.start was sent a second time")
        code = message["status"]
        self._head, length = encode_asgi_head(code, message.get("headers", ()), self.unbuffered_events, self.request)
        self._length = length
        self._started = True
        if code >= 204:
            self._failing = code >= 500
            if code == 204 or code == 304:
                self._bodyless = True
        if length is None:
            # A stream: its head goes out alone if the application now waits for its first event.
            self._early_head = self.request.connection.loop.call_soon(self._send_head)
        elif not self._bodyless and code < 500:
            self._undivided = length

    def _send_head(self) -> None:
        """The head by itself."""
        self._early_head = None
        request = self.request
        core = request.core
        if self._head and not core.aborted and not core.ended:
            head, self._head = self._head, b""
            request.write_now(head)

    def _keep_head(self) -> None:
        """It leaves with what follows, if anything does."""
        if self._early_head is not None:
            self._early_head.cancel()
            self._early_head = None

    def _send_part(self, data: bytes | bytearray | memoryview, *, more: bool) -> None:
        if not self._started:
            raise RuntimeError("http.response.body was sent before http.response.start")
        if self._whole:
            self._refuse("http.response.body")
        self._keep_head()
        self._undivided = -1
        if type(data) is not bytes:
            data = as_bytes(data)
        if self._bodyless and more and not self._failing:
            # What follows may have no end, and some web servers tell that nobody waits only when it is written.
            self._passes_over_until = self.request.connection.loop.time() + _PATIENCE_SECONDS
            self.request.end(data=self._head)
            return
        excess = False
        if self._bodyless or self._length is not None:
            body = self._body
            if body is None:
                body = self._body = BodyCounter(self._length, suppressed=self._bodyless)
            data = body.take(data)
            excess = body.excess
            if not more and not excess:
                body.check_end()
        if not more or excess:
            self._send_last(data)
            if excess:
                raise BodyLengthError("the response's body is longer than its Content-Length; the rest is dropped")
            return
        if data or self._body is not None:
            if self._head:
                data, self._head = self._head + data, b""
            self.request.write_now(data)
            self._flows = self._body is None

    async def _send_path(self, path: str) -> None:
        """A file as the whole body, or as what is left of it; no more of one that has grown than was promised."""
        from .files import SMALL, open_regular_file, read_file

        if not self._started:
            raise RuntimeError("http.response.pathsend was sent before http.response.start")
        if self._whole:
            self._refuse("http.response.pathsend")
        body, request = self._body, self.request
        if body is None:
            body = self._body = BodyCounter(self._length, suppressed=self._bodyless)
        self._keep_head()
        data = b""
        if not body.suppressed:
            descriptor, size = open_regular_file(path)
            try:
                if body.left is not None:
                    size = min(size, body.left)
                if size <= SMALL:
                    data = read_file(descriptor, size)
                else:
                    head, self._head = self._head, b""
                    request.put(head)
                    await request.send_file(descriptor, 0, size)
                    body.count(size)
            finally:
                os.close(descriptor)
        self._send_part(data, more=False)

    def _send_last(self, data: bytes) -> None:
        request = self.request
        if self._head:
            data, self._head = self._head + data, b""
        self._whole = True
        self._flows = False
        if self._failing:
            # Starlette sends its page first, and raises the error behind it.
            self._disconnected = True
            request.put(data)
            request.end_soon()
        else:
            request.end(data=data)


class _StateKeeper:
    """A lifespan whose state the handlers of a class find."""

    def __init__(self, handler: type[AsgiHandler]) -> None:
        from .lifespan import Lifespan

        self._handler = handler
        self._lifespan = Lifespan(handler.app, handler.lifespan_mode)

    async def __aenter__(self) -> None:
        await self._lifespan.__aenter__()
        self._handler.state = self._lifespan.state
        self._handler.lifespan_error = None

    async def __aexit__(self, *exc_info: object) -> None:
        await self._lifespan.__aexit__(*exc_info)
        self._handler.lifespan_error = self._lifespan.error


def _is_double_callable(app: Callable[..., Any]) -> bool:
    from .detect import detect_interface

    try:
        return detect_interface(app) == "asgi2"
    except ConfigurationError:
        # Its shape tells nothing, but whoever came here says that it is ASGI.
        return False


def _single_callable(app: Callable[..., Any]) -> AsgiApplication:
    try:
        from asgiref.compatibility import guarantee_single_callable
    except ImportError:
        raise ConfigurationError(
            "this is an application of ASGI 2 (a double callable): install simple_fastcgi[asgi2]"
        ) from None
    adapted: AsgiApplication = guarantee_single_callable(app)
    return adapted
