"""Testing applications through the true gateway, in one process: server, FastCGI and httpx, and no web server.

It needs httpx, which the extra ``client`` installs.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from .aio.handler import AsyncFcgiHandler
from .aio.server import AsyncFcgiServer
from .client import FcgiTransport
from .errors import ConfigurationError
from .gateways import AsgiHandler, WsgiHandler
from .gateways.detect import detect_interface
from .limits import Limits
from .log import tells_of_hang_up
from .net.address import UNIX_PATH_LIMIT
from .protocol.constants import FCGI_AUTHORIZER, FCGI_RESPONDER
from .serving.loops import loop_factory
from .serving.run import DEFAULT_THREADS, check_settings
from .sync.handler import FcgiHandler
from .sync.server import FcgiServer
from .sync.threading_server import FcgiThreadingServer

# Behind FcgiTransport, which tells how to install it.
import httpx  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Literal, Self

    from .aio.request import AsyncFcgiRequest
    from .cgi.params import Extra
    from .limits import ClientLimits
    from .protocol.streams import Request
    from .sync.request import FcgiRequest

    App = Callable[..., Any] | type[FcgiHandler] | type[AsyncFcgiHandler]

__all__ = ["AppServer", "AppTransport", "FcgiTestClient"]

# The parameter by which a request is told from others; the application does not see it.
_MARK = "SIMPLE_FASTCGI_TESTING_MARK"
_marks = itertools.count(1)
_GRACEFUL_SECONDS = 5.0
# Behind the graceful time, for the server itself.
_CLOSING_SECONDS = 10.0
_CLIENT_SECONDS = 60.0


class AppServer:
    """A FastCGI server for `app` in a thread, on a private unix socket, from now until :meth:`close`.

    `app`
        A WSGI or ASGI application (`interface`: "auto", "wsgi" or "asgi"), or a class of handlers, FcgiHandler or
        AsyncFcgiHandler.
    `threads` (default 4), `root_path`, `lifespan`, `loop`
        As :func:`~simple_fastcgi.serve` takes them.
    `limits`
        :class:`~simple_fastcgi.limits.Limits`; by default ``graceful_timeout`` is 5 seconds.

    A context manager. Raises ConfigurationError for settings that cannot work, and
    :class:`~simple_fastcgi.gateways.lifespan.LifespanError` when an ASGI application fails to start.
    """

    address: str
    """Where it listens, for :class:`~simple_fastcgi.client.FcgiTransport` and the like."""
    errors: list[BaseException]
    """What the application raised, in order, and nobody has taken out; a client that hung up is none.

    Behind :meth:`close` also what its lifespan's shutdown failed with, and what ended the server's thread, if anything.
    """

    def __init__(
        self,
        app: App,
        *,
        interface: Literal["auto", "wsgi", "asgi"] = "auto",
        threads: int = DEFAULT_THREADS,
        root_path: str | None = None,
        lifespan: Literal["auto", "on", "off"] = "auto",
        loop: Literal["auto", "asyncio", "uvloop"] = "auto",
        limits: Limits | None = None,
    ) -> None:
        check_settings(threads=threads, interface=interface, lifespan=lifespan, loop=loop)
        self.errors = []
        self._of_mark: dict[str, list[BaseException]] = {}
        self._limits = Limits(graceful_timeout=_GRACEFUL_SECONDS) if limits is None else limits
        handler = _handler_of(app, interface, root_path, lifespan)
        self._folder = _short_folder()
        self._shutdown: Callable[[], object]
        self._await_start: Callable[[], None]
        try:
            self.address = f"unix:{self._folder}/app.sock"
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(f"{self._folder}/app.sock")
                listening.listen(128)
                if issubclass(handler, FcgiHandler):
                    run = self._prepare_sync(handler, listening, threads)
                else:
                    run = self._prepare_async(handler, listening, loop)
                self._thread = threading.Thread(target=run, name="fcgi-app-server", daemon=True)
                self._thread.start()
                self._await_start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End gracefully: requests under way may end, then an ASGI application's lifespan; and wait for it.

        RuntimeError if the application holds up the end for longer than ``graceful_timeout`` and ten seconds more.
        """
        self._shutdown()
        self._thread.join(self._limits.graceful_timeout + _CLOSING_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._thread.is_alive():
            raise RuntimeError("the server did not end: the application blocks its thread")

    def _take_errors(self, mark: str) -> list[BaseException]:
        """The errors of the request that was sent with `mark` as its parameter _MARK, which count as claimed."""
        found = self._of_mark.pop(mark, [])
        for error in found:
            with suppress(ValueError):
                self.errors.remove(error)
        return found

    def _note(self, request: FcgiRequest | AsyncFcgiRequest) -> None:
        """Keep the exception that is being handled."""
        error, core = sys.exception(), request.core
        if error is None or isinstance(error, asyncio.CancelledError) or (core.aborted and tells_of_hang_up(error)):
            return
        self.errors.append(error)
        if isinstance(core.params, _MarkedParams):
            self._of_mark.setdefault(core.params.mark, []).append(error)

    def _prepare_sync(self, handler: type[FcgiHandler], listening: socket.socket, threads: int) -> Callable[[], None]:
        owner = self

        class Noting(FcgiServer):
            def verify_request(self, request: FcgiRequest, client_address: object) -> bool:  # type: ignore[override]
                _hide_mark(request.core)
                return super().verify_request(request, client_address)  # type: ignore[arg-type]

            def handle_error(self, request: FcgiRequest, client_address: object) -> None:  # type: ignore[override]
                owner._note(request)
                super().handle_error(request, client_address)

        class NotingInThreads(FcgiThreadingServer, Noting):
            pass

        server: FcgiServer = (
            Noting(handler, listening, limits=self._limits)
            if threads == 1
            else NotingInThreads(handler, listening, threads=threads, limits=self._limits)
        )
        self._shutdown = server.shutdown
        self._await_start = lambda: None

        def run() -> None:
            with server:
                server.serve_forever()

        return run

    def _prepare_async(
        self, handler: type[AsyncFcgiHandler], listening: socket.socket, loop: str
    ) -> Callable[[], None]:
        owner = self
        settled = threading.Event()
        failures: list[BaseException] = []
        stopping = asyncio.Event()
        runner = asyncio.Runner(loop_factory=loop_factory(loop))
        # Before the caller closes its own.
        listening = listening.dup()

        class Noting(AsyncFcgiServer):
            def started(self) -> None:
                settled.set()

            async def verify_request(self, request: AsyncFcgiRequest, client_address: object) -> bool:
                _hide_mark(request.core)
                return await super().verify_request(request, client_address)

            def handle_error(self, request: AsyncFcgiRequest, client_address: object) -> None:
                owner._note(request)
                super().handle_error(request, client_address)

        async def main() -> None:
            async with Noting(handler, listening, limits=self._limits) as server:
                serving = asyncio.create_task(server.serve_forever())
                stopper = asyncio.create_task(stopping.wait())
                await asyncio.wait({serving, stopper}, return_when=asyncio.FIRST_COMPLETED)
                stopper.cancel()
                if not serving.done():
                    await server.shutdown()
                await serving

        def run() -> None:
            try:
                with listening, runner:
                    runner.run(main())
            except BaseException as error:
                failures.append(error)
            else:
                if issubclass(handler, AsgiHandler) and handler.lifespan_error is not None:
                    failures.append(handler.lifespan_error)
            finally:
                self.errors += failures
                settled.set()

        def await_start() -> None:
            settled.wait()
            if failures:
                self._thread.join()
                raise failures[0]

        def shutdown() -> None:
            # Closed already: there is nothing left to stop.
            with suppress(RuntimeError):
                runner.get_loop().call_soon_threadsafe(stopping.set)

        self._await_start = await_start
        self._shutdown = shutdown
        return run


class _MarkedParams(dict[str, str]):
    """The parameters of a request of an AppTransport's, whose `mark` nobody else sees."""

    __slots__ = ("mark",)

    mark: str


def _hide_mark(request: Request) -> None:
    """Take the mark out of the parameters, before a handler sees them."""
    if _MARK in request.params:
        request.params = params = _MarkedParams(request.params)
        params.mark = params.pop(_MARK)
        # It had the mark in it.
        request.layout = None


class AppTransport(FcgiTransport):
    """A transport for httpx.Client that has an :class:`AppServer` of its own for `app`, and ends it with itself.

    `raise_app_exceptions` (default true): what the application raised is raised again by the request in question, as
    with httpx.WSGITransport, and by :meth:`close` if it came later (a background task's, the shutdown's); otherwise the
    response is what a web server would see. `interface`, `threads`, `root_path`, `lifespan`, `loop` and `server_limits`
    are those of the server; `root_path` is the application's mount point for both. `params`, `client`, `limits` and
    `role` are those of :class:`~simple_fastcgi.client.FcgiTransport`; a class of handlers that serves no Responder is
    asked as the Authorizer that it is.
    """

    server: AppServer

    def __init__(
        self,
        app: App,
        *,
        raise_app_exceptions: bool = True,
        interface: Literal["auto", "wsgi", "asgi"] = "auto",
        threads: int = DEFAULT_THREADS,
        root_path: str | None = None,
        lifespan: Literal["auto", "on", "off"] = "auto",
        loop: Literal["auto", "asyncio", "uvloop"] = "auto",
        server_limits: Limits | None = None,
        params: Extra | None = None,
        client: tuple[str, int] | None = ("127.0.0.1", 0),
        limits: ClientLimits | httpx.Limits | None = None,
        role: int | None = None,
    ) -> None:
        self.raise_app_exceptions = raise_app_exceptions
        self.server = AppServer(
            app, interface=interface, threads=threads, lifespan=lifespan, loop=loop, limits=server_limits
        )
        try:
            super().__init__(
                self.server.address,
                root_path=root_path,
                params=params,
                client=client,
                limits=limits,
                role=_role_of(app) if role is None else role,
            )
        except BaseException:
            self.server.close()
            raise

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the response. For httpx."""
        mark = str(next(_marks))
        try:
            response = super().handle_request(_marked(request, mark))
        except Exception as error:
            failure = error
        else:
            response.stream = _RaisingStream(self, mark, response)
            return response
        # Outside of the handler, so that the application's error keeps its own context.
        self._raise_errors(mark)
        raise failure

    def close(self) -> None:
        """End the server, gracefully; raises what the application has raised, and nobody has heard of."""
        super().close()
        self.server.close()
        if self.raise_app_exceptions and self.server.errors:
            errors, self.server.errors = self.server.errors, []
            raise errors[0]

    def _raise_errors(self, mark: str) -> None:
        if self.raise_app_exceptions:
            errors = self.server._take_errors(mark)
            if errors:
                raise errors[0]


def _marked(request: httpx.Request, mark: str) -> httpx.Request:
    """`request` with a parameter that tells the server which one it is: others may have the same URL."""
    params = request.extensions.get("fastcgi_params")
    if params is not None and not isinstance(params, Mapping):
        # Refused by the transport.
        return request
    extensions = {**request.extensions, "fastcgi_params": {**(params or {}), _MARK: mark}}
    return httpx.Request(
        request.method, request.url, headers=request.headers, stream=request.stream, extensions=extensions
    )


class _RaisingStream(httpx.SyncByteStream):
    """The body of a response, behind which the application's error is raised."""

    def __init__(self, transport: AppTransport, mark: str, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.SyncByteStream)
        self._transport = transport
        self._mark = mark
        self._stream = response.stream

    def __iter__(self) -> Iterator[bytes]:
        failure = None
        try:
            yield from self._stream
        except Exception as error:
            failure = error
        self._transport._raise_errors(self._mark)
        if failure is not None:
            raise failure

    def close(self) -> None:
        self._stream.close()


class FcgiTestClient(httpx.Client):
    """An httpx.Client whose requests go to `app` over real FastCGI; `options` are httpx.Client's.

    It serves from the beginning: an ASGI application has started (lifespan) when this returns, and has ended behind
    its ``close()``. `raise_app_exceptions` and what follows are those of :class:`AppTransport`. `base_url` is
    ``http://testserver``, the timeout 60 seconds if `options` do not say otherwise.
    """

    server: AppServer

    def __init__(
        self,
        app: App,
        *,
        base_url: str = "http://testserver",
        raise_app_exceptions: bool = True,
        interface: Literal["auto", "wsgi", "asgi"] = "auto",
        threads: int = DEFAULT_THREADS,
        root_path: str | None = None,
        lifespan: Literal["auto", "on", "off"] = "auto",
        loop: Literal["auto", "asyncio", "uvloop"] = "auto",
        params: Extra | None = None,
        role: int | None = None,
        **options: Any,
    ) -> None:
        transport = AppTransport(
            app,
            raise_app_exceptions=raise_app_exceptions,
            interface=interface,
            threads=threads,
            root_path=root_path,
            lifespan=lifespan,
            loop=loop,
            params=params,
            role=role,
        )
        self.server = transport.server
        try:
            super().__init__(transport=transport, base_url=base_url, **{"timeout": _CLIENT_SECONDS, **options})
        except BaseException:
            transport.close()
            raise


def _handler_of(
    app: App, interface: str, root_path: str | None, lifespan: Literal["auto", "on", "off"]
) -> type[FcgiHandler] | type[AsyncFcgiHandler]:
    if isinstance(app, type) and issubclass(app, FcgiHandler | AsyncFcgiHandler):
        if root_path is not None:
            raise ConfigurationError("root_path: a class of handlers has none; give it to the transport")
        return app
    if interface == "auto":
        interface = "wsgi" if detect_interface(app) == "wsgi" else "asgi"
    if interface == "wsgi":
        return WsgiHandler.for_app(cast("Callable[..., Any]", app), root_path=root_path, multiprocess=False)
    return AsgiHandler.for_app(app, root_path=root_path, lifespan=lifespan)


def _role_of(app: App) -> int:
    """The one that it is asked in unless the caller says otherwise."""
    roles = app.roles if isinstance(app, type) and issubclass(app, FcgiHandler | AsyncFcgiHandler) else ()
    return FCGI_AUTHORIZER if FCGI_AUTHORIZER in roles and FCGI_RESPONDER not in roles else FCGI_RESPONDER


def _short_folder() -> str:
    """A new folder that only this user can enter, whose path has room for a socket's name."""
    folder = tempfile.mkdtemp(prefix="fcgi-")
    if len(folder) + len("/app.sock") > UNIX_PATH_LIMIT:
        shutil.rmtree(folder)
        folder = tempfile.mkdtemp(prefix="fcgi-", dir="/tmp")
    return folder
