"""The ASGI lifespan protocol around a server's life, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from simple_fastcgi.gateways import AsgiHandler
from simple_fastcgi.gateways import lifespan as lifespan_module
from simple_fastcgi.gateways.lifespan import Lifespan, LifespanError
from tests.gateways.asgi_support import LOOPS, Host, respond
from tests.support.webserver import params_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from tests.gateways.asgi_support import App, LoopFactory, Receive, Scope, Send

    HostMaker = Callable[..., Host]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> LoopFactory:
    return LOOPS[request.param]


@pytest.fixture
def host(loop: LoopFactory) -> HostMaker:
    return lambda app, mode="auto": Host(app, loop, lifespan=mode)


def application(start: Callable[..., Awaitable[None]], *, stop: str = "lifespan.shutdown.complete") -> App:
    """An application whose lifespan begins with `start` and then goes on as it should; it answers its state's names."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await respond(send, ",".join(sorted(scope.get("state", ["no state"]))).encode())
            return
        await start(scope, receive, send)
        assert await receive() == {"type": "lifespan.shutdown"}
        await send({"type": stop, "message": "too late"})

    return app


async def complete(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["pool"] = []
    await send({"type": "lifespan.startup.complete"})


def failing(error: type[BaseException] | None, *, receives: bool = False) -> Callable[..., Awaitable[None]]:
    async def start(scope: Scope, receive: Receive, send: Send) -> None:
        if receives:
            await receive()
        if error is not None:
            raise error("mine")

    return start


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def ask(host: Host) -> bytes:
    with host as web:
        return web.request(params_for()).body


@pytest.mark.parametrize("mode", ("auto", "on"))
def test_start_and_shutdown(host: HostMaker, caplog: pytest.LogCaptureFixture, mode: str) -> None:
    assert ask(host(application(complete), mode)) == b"pool"
    assert not messages(caplog)


def test_off(host: HostMaker) -> None:
    """The application is not even asked."""
    assert ask(host(application(failing(LookupError)), "off")) == b"no state"


def test_each_request_has_a_copy_of_the_state(host: HostMaker) -> None:
    """A shallow one, as the specification has it: objects are shared, names are not."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await complete(scope, receive, send)
            await receive()
            assert scope["state"].keys() == {"pool"}
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert scope["state"].keys() == {"pool"}
        scope["state"]["mine"] = 1
        scope["state"]["pool"].append(1)
        await respond(send, b"%d" % len(scope["state"]["pool"]))

    with host(app, "on") as web:
        assert [web.request(params_for()).body for _ in range(3)] == [b"1", b"2", b"3"]


def test_what_is_told_of_asgi_is_each_scope_s_own(host: HostMaker) -> None:
    """Middleware that notes something there notes it for one request."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        known = sorted(scope["asgi"])
        scope["asgi"][f"of a {scope['type']}"] = 1
        if scope["type"] == "http":
            await respond(send, ",".join(known).encode())
            return
        assert known == ["spec_version", "version"]
        await complete(scope, receive, send)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    for _ in range(2):
        with host(app, "on") as web:
            assert [web.request(params_for()).body for _ in range(2)] == [b"spec_version,version"] * 2


class Stopping(AsgiHandler):
    """Asks its server to end before it calls the application."""

    async def handle(self) -> None:
        await self.server.shutdown()
        await super().handle()


def test_shutdown_comes_behind_the_last_request(loop: LoopFactory) -> None:
    diary: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await complete(scope, receive, send)
            diary.append("started")
            await receive()
            diary.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            diary.append("last words")
            return
        for _ in range(10):
            # The server could go on.
            await asyncio.sleep(0)
        diary.append("answered")
        await respond(send, b"x")

    assert ask(Host(app, loop, handler=Stopping, lifespan="on")) == b"x"
    assert diary == ["started", "answered", "shutdown", "last words"]


def test_no_request_before_the_start_is_complete(host: HostMaker) -> None:
    """The listen queue keeps them."""
    diary: list[str] = []

    async def start(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        diary.append("started")
        await complete(scope, receive, send)

    with host(application(start)) as web:
        assert diary == ["started"]
        assert web.request(params_for()).body == b"pool"


# ------------------------------------------------------------------------------ without lifespan


@pytest.mark.parametrize("error", (None, LookupError, AssertionError, asyncio.CancelledError))
def test_an_application_that_does_not_know_it(
    host: HostMaker, caplog: pytest.LogCaptureFixture, error: type[BaseException] | None
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await application(complete)(scope, receive, send)
        elif error is not None:
            raise error("mine")

    assert ask(host(app)) == b"no state"
    assert not messages(caplog)


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
def test_an_application_that_fails_at_its_start_without_a_word(
    host: HostMaker, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """The specification has the server go on, but not in silence."""
    assert ask(host(application(failing(error, receives=True)))) == b"no state"
    assert messages(caplog) == ["the application's start-up failed, going on without (lifespan=auto)"]
    assert caplog.records[0].exc_info


@pytest.mark.parametrize(
    ("error", "told"), ((LookupError, "LookupError('mine')"), (None, "it returned at once")), ids=("raises", "returns")
)
def test_on_asks_for_it(host: HostMaker, error: type[BaseException] | None, told: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if error is not None:
            raise error("mine")

    with pytest.raises(LifespanError) as caught:
        ask(host(app, "on"))
    assert str(caught.value) == f"the application does not support lifespan: {told}"


# ------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("mode", ("auto", "on"))
@pytest.mark.parametrize(
    ("message", "told"),
    (
        ({"message": "no database"}, "the application failed to start: no database"),
        ({"message": ""}, "the application failed to start: it gives no reason"),
        ({}, "the application failed to start: it gives no reason"),
    ),
    ids=("reason", "empty", "none"),
)
@pytest.mark.parametrize("raises", (True, False))
def test_a_failed_start(host: HostMaker, mode: str, message: dict[str, str], told: str, raises: bool) -> None:
    async def start(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", **message})
        if raises:
            raise LookupError
        await asyncio.sleep(3600)

    with pytest.raises(LifespanError) as caught:
        ask(host(application(start), mode))
    assert str(caught.value) == told


@pytest.mark.parametrize("error", (SystemExit, KeyboardInterrupt))
def test_a_start_that_calls_for_the_end(host: HostMaker, error: type[BaseException]) -> None:
    with pytest.raises(LifespanError) as caught:
        ask(host(application(failing(error))))
    assert str(caught.value) == f"the application failed to start: {error('mine')!r}"


def test_a_start_that_says_something_else(host: HostMaker) -> None:
    async def start(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    with pytest.raises(LifespanError) as caught:
        ask(host(application(start), "on"))
    assert "'http.response.start' is no message of the lifespan protocol" in str(caught.value)


def test_a_failed_shutdown(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(host(application(complete, stop="lifespan.shutdown.failed"))) == b"pool"
    assert messages(caplog) == ["the application failed to shut down: too late"]


@pytest.mark.parametrize("error", (LookupError, SystemExit))
@pytest.mark.parametrize("early", (True, False), ids=("while serving", "at shutdown"))
def test_a_lifespan_that_breaks_off(
    host: HostMaker, caplog: pytest.LogCaptureFixture, error: type[BaseException], early: bool
) -> None:
    serving = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            serving.set()
            await respond(send, b"x")
            return
        await complete(scope, receive, send)
        await (serving.wait() if early else receive())
        raise error("mine")

    assert ask(host(app)) == b"x"
    assert messages(caplog) == ["the application's lifespan failed"]
    assert caplog.records[-1].exc_info


def test_a_lifespan_that_returns_early(host: HostMaker, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await complete(scope, receive, send)
        else:
            await respond(send, b"x")

    assert ask(host(app)) == b"x"
    assert not messages(caplog)


def test_last_words_have_a_limit(
    host: HostMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifespan_module, "_LAST_WORDS_SECONDS", 0.01)
    endings: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await respond(send, b"x")
            return
        await application(complete)(scope, receive, send)
        try:
            await asyncio.sleep(3600)
        finally:
            endings.append("cancelled")

    assert ask(host(app)) == b"x"
    assert endings == ["cancelled"]
    assert not messages(caplog)


# ------------------------------------------------------------------------------ cancelled


@pytest.mark.parametrize("at", ("start", "shutdown"))
def test_an_application_that_hangs_can_be_given_up(loop: LoopFactory, at: str) -> None:
    """Whoever waits for it may be cancelled, and no task is left."""
    diary: list[str] = []

    async def main() -> None:
        hanging = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if at == "shutdown":
                await complete(scope, receive, send)
            await receive()
            hanging.set()
            try:
                await asyncio.sleep(3600)
            finally:
                diary.append("cancelled")

        async def live() -> None:
            async with Lifespan(app):
                diary.append("serving")

        task = asyncio.create_task(live())
        await hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert diary == ["cancelled"] if at == "start" else ["serving", "cancelled"]


# ------------------------------------------------------------------------------ as people write it


def test_starlette(host: HostMaker) -> None:
    diary: list[str] = []

    class Life:
        def __init__(self, app: object) -> None: ...

        async def __aenter__(self) -> dict[str, str]:
            diary.append("open")
            return {"name": "pool"}

        async def __aexit__(self, *_: object) -> None:
            diary.append("closed")

    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.name)

    assert ask(host(Starlette(routes=[Route("/", page)], lifespan=Life), "on")) == b"pool"
    assert diary == ["open", "closed"]


def test_starlette_that_cannot_start(host: HostMaker) -> None:
    """It tells its traceback."""

    async def life(app: object) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    with pytest.raises(LifespanError) as caught:
        ask(host(Starlette(lifespan=asynccontextmanager(life))))
    assert str(caught.value).startswith("the application failed to start: Traceback")
    assert str(caught.value).rstrip().endswith("LookupError: no database")


def test_modes() -> None:
    """What a handler class says is what its lifespan does."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert AsgiHandler.for_app(app).lifespan_mode == "auto"
    assert AsgiHandler.for_app(app, lifespan="on").lifespan_mode == "on"
