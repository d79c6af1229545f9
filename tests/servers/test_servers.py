"""The servers' own members: what they are made of, `fileno`, `service_actions`, threads, several servers at once."""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import socket
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, BaseServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from simple_fastcgi import (
    AsyncFcgiHandler,
    AsyncFcgiServer,
    AsyncHttpResponseMixin,
    FcgiHandler,
    FcgiServer,
    FcgiThreadingServer,
    HttpResponseMixin,
)
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.limits import Limits
from simple_fastcgi.protocol.constants import FCGI_GET_VALUES, FCGI_GET_VALUES_RESULT
from simple_fastcgi.protocol.records import encode_record
from simple_fastcgi.protocol.terms import Terms
from simple_fastcgi.sync import poller, pool
from simple_fastcgi.sync.connection import Connection
from simple_fastcgi.sync.lead import Lead
from tests.servers.support import ASYNC, CONCURRENT, HEAD, SYNC, TIMEOUT, Flag, kinds, listening_socket, until
from tests.support.webserver import WebServer, encode_request, params_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.support import Handler, Log, Serve


async def echo_path(h: Handler) -> None:
    await h.write(HEAD + h.environ["PATH_INFO"].encode())


# ------------------------------------------------------------------------------------------ shape


@pytest.mark.parametrize(("server", "handler"), [(FcgiServer, FcgiHandler), (AsyncFcgiServer, AsyncFcgiHandler)])
def test_limits_that_are_none(server: Any, handler: Any) -> None:
    with listening_socket(socket.AF_INET) as (listening, _):
        with pytest.raises(ConfigurationError, match=r"^limits=\{'max_params': 3\}: give Limits"):
            server(handler, listening, limits={"max_params": 3})


def test_base_classes() -> None:
    assert issubclass(FcgiHandler, BaseRequestHandler)
    assert issubclass(FcgiServer, BaseServer)
    assert issubclass(FcgiThreadingServer, FcgiServer)
    assert issubclass(FcgiThreadingServer, ThreadingMixIn)


def test_what_is_a_coroutine() -> None:
    waiting = ("handle", "read", "readinto", "readall", "write", "write_err")
    for name in (*waiting, "aborted"):
        assert inspect.iscoroutinefunction(getattr(AsyncFcgiHandler, name)) == (name in waiting)
        assert not inspect.iscoroutinefunction(getattr(FcgiHandler, name))
    for name in ("send_response", "send_redirect"):
        assert inspect.iscoroutinefunction(getattr(AsyncHttpResponseMixin, name))
        assert not inspect.iscoroutinefunction(getattr(HttpResponseMixin, name))
    for name in ("shutdown", "serve_forever"):
        assert inspect.iscoroutinefunction(getattr(AsyncFcgiServer, name))
        assert not inspect.iscoroutinefunction(getattr(FcgiServer, name))
    assert not hasattr(AsyncFcgiServer, "service_actions")


def test_defaults() -> None:
    for handler, mixin, server in (
        (FcgiHandler, HttpResponseMixin, FcgiServer),
        (AsyncFcgiHandler, AsyncHttpResponseMixin, AsyncFcgiServer),
    ):
        assert inspect.signature(handler.read).parameters["sz"].default == -1
        assert inspect.signature(server).parameters["sockfd"].default == 0
        for function, keyword, default in ((handler.write, "flush", False), (mixin.send_response, "flush", True)):
            parameter = inspect.signature(function).parameters[keyword]
            assert parameter.default is default
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        parameters = inspect.signature(mixin.send_response).parameters
        assert parameters["code"].kind is inspect.Parameter.POSITIONAL_ONLY
        assert parameters["mime_type"].default == "text/plain"
        assert parameters["data"].default is None
        assert not list(parameters["extra_headers"].default)
        assert parameters["extra_headers"].kind is inspect.Parameter.KEYWORD_ONLY


# ------------------------------------------------------------------------------------------ members


def test_fileno_and_address(serve: Serve, family: socket.AddressFamily) -> None:
    running = serve(echo_path, family=family)
    server = running.server
    assert os.path.sameopenfile(server.fileno(), server.socket.fileno())
    assert server.fileno() != running.listening.fileno()
    assert server.server_address == running.address
    running.stop()
    # What was given stays with its giver.
    assert running.listening.getsockname() == running.address
    assert server.fileno() == -1


@ASYNC
def test_get_loop(serve: Serve) -> None:
    running = serve(echo_path)

    async def current() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert running.submit(current()).result(TIMEOUT) is running.server.get_loop()


def test_get_loop_outside_of_a_loop() -> None:
    with listening_socket(socket.AF_UNIX) as (sock, _):
        server = AsyncFcgiServer(AsyncFcgiHandler, sock)
        with pytest.raises(RuntimeError, match="does not run"):
            server.get_loop()

        async def main() -> None:
            async with server:
                serving = asyncio.create_task(server.serve_forever())
                await asyncio.sleep(0)
                assert server.get_loop() is asyncio.get_running_loop()
                await server.shutdown()
                await serving

        asyncio.run(main())


def test_a_subclass_may_extend_init(serve: Serve) -> None:
    def extended(self: Any, handler: Any, sockfd: Any, **options: Any) -> None:
        super(type(self), self).__init__(handler, sockfd, **options)
        self.extra = "of the subclass"

    async def body(h: Handler) -> None:
        await h.write(HEAD + h.real.server.extra.encode())

    assert serve(body, server={"__init__": extended}).request().body == b"of the subclass"


@SYNC
def test_service_actions_is_called_in_the_loop(serve: Serve) -> None:
    """In the thread of serve_forever, now and then, whether or not anything happens."""
    calls: list[int] = []

    def service_actions(_: Any) -> None:
        calls.append(threading.get_ident())

    running = serve(echo_path, server={"service_actions": service_actions})
    until(lambda: len(calls) >= 3)
    assert running.request("/x").body == b"/x"
    before = len(calls)
    until(lambda: len(calls) > before)
    assert set(calls) == {running.thread.ident}


@kinds("sync", "selector")
def test_service_actions_is_called_however_busy_the_server_is(serve: Serve) -> None:
    """Also where handlers themselves bring in request after request."""
    calls: list[int] = []

    async def body(h: Handler) -> None:
        await h.read()
        h.aborted()
        await h.write(HEAD)

    running = serve(body, server={"service_actions": lambda _: calls.append(1)})
    web = running.connect()
    # Two at a time, so that one has always begun when the other ends.
    web.send(encode_request(params_for(), b"body", request_id=1))
    for i in range(300):
        web.send(encode_request(params_for(), b"body", request_id=i % 2 + 2))
        web.response(1 if i == 0 else (i - 1) % 2 + 2)
    assert len(calls) > 10


@kinds("sync")
def test_handle_request_is_not_for_fastcgi(serve: Serve) -> None:
    with pytest.raises(NotImplementedError, match="serve_forever"):
        serve(echo_path).server.handle_request()


def test_multithread(serve: Serve) -> None:
    running = serve(echo_path)
    if not running.kind.is_async:
        assert running.server.multithread is running.kind.concurrent


# ------------------------------------------------------------------------------------------ threads


@CONCURRENT
def test_handlers_run_at_once(serve: Serve) -> None:
    """Each of four waits until all have begun."""
    begun = [Flag() for _ in range(4)]

    async def body(h: Handler) -> None:
        begun[int(h.environ["PATH_INFO"][1:])].set()
        await h.wait(*begun)
        await echo_path(h)

    running = serve(body)
    webs = [running.connect() for _ in begun]
    for i, web in enumerate(webs):
        web.send(encode_request(params_for(f"/{i}")))
    for i, web in enumerate(webs):
        assert web.response().body == f"/{i}".encode()


class Counter:
    """How many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize("threads", [1, 3])
@kinds("threads")
def test_no_more_threads_than_wanted(serve: Serve, threads: int) -> None:
    """Requests beyond that wait, in the order in which they came."""
    inside, release = Counter(), Flag()
    order: list[str] = []

    async def body(h: Handler) -> None:
        with inside:
            order.append(h.environ["PATH_INFO"])
            await h.wait(release)
        await echo_path(h)

    running = serve(body, threads=threads)
    assert running.server.threads == threads
    web = running.connect()
    ids = range(1, 21)
    web.send(b"".join(encode_request(params_for(f"/{i}"), request_id=i) for i in ids))
    until(lambda: len(order) == threads)
    assert sorted(order) == sorted(f"/{i}" for i in range(1, threads + 1))
    release.set()
    assert all(response.ended for response in web.responses(ids).values())
    assert inside.most == threads
    assert len(order) == len(ids)
    if threads == 1:
        assert order == [f"/{i}" for i in ids]
    handlers = [thread for thread in threading.enumerate() if thread.name.startswith("fcgi-handler-")]
    assert len(handlers) == threads


@kinds("threads")
def test_threads_are_started_when_they_are_needed(serve: Serve) -> None:
    names: set[str] = set()

    async def body(h: Handler) -> None:
        names.add(threading.current_thread().name)
        await echo_path(h)

    def lead_never(server: Any, poll_interval: float) -> None:
        server._turn(poll_interval)

    running = serve(body, server={"_follow": lead_never})
    web = running.connect()
    for _ in range(10):
        web.request(params_for())
        until(lambda: running.server._pool.under_way == 0)
    assert names == {"fcgi-handler-1"}


@kinds("threads")
def test_a_thread_that_has_led_is_not_taken_for_the_loop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may run a handler before anybody else runs the loop; that would wait for input which the loop receives."""
    in_loop: list[bool] = []
    end = Lead.end

    def watched(lead: Lead, error: BaseException | None) -> None:
        in_loop.append(running.server.in_loop())
        end(lead, error)

    monkeypatch.setattr(Lead, "end", watched)
    running = serve(echo_path)
    # Without a request, for a handler that a busy machine makes look slow would lose the loop for good.
    until(lambda: running.server._lead is not None)
    running.stop()
    assert in_loop
    assert not any(in_loop)


@pytest.mark.parametrize("threads", [0, -1, True, 2.0, "4", None])
def test_a_number_of_threads_that_is_none(threads: Any) -> None:
    with listening_socket(socket.AF_UNIX) as (sock, _), pytest.raises(ConfigurationError, match="threads="):
        FcgiThreadingServer(FcgiHandler, sock, threads=threads)


@kinds("threads")
def test_a_host_without_threads(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on in the loop's own."""
    idents: set[int] = set()

    async def body(h: Handler) -> None:
        idents.add(threading.get_ident())
        await echo_path(h)

    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name.startswith("fcgi-handler-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_others)
    running = serve(body)
    for _ in range(2):
        assert running.request("/x").body == b"/x"
    log.claim("no thread can be started (can't start new thread): requests are served one after the other")
    assert idents == {running.thread.ident}
    monkeypatch.undo()
    # As soon as there are some again, they are used.
    assert running.request("/y").body == b"/y"
    assert len(idents) == 2


@kinds("threads")
def test_a_host_with_few_threads(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that there are do the work."""
    release = Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/slow":
            await h.wait(release)
        await echo_path(h)

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for("/slow"), request_id=1))
    until(lambda: running.server._pool._threads)

    def start(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    web.send(encode_request(params_for("/fast"), request_id=2))
    until(lambda: not running.server._pool._tasks.empty())
    release.set()
    assert [response.body for response in web.responses([1, 2]).values()] == [b"/slow", b"/fast"]


def test_a_pool_survives_its_tasks(caplog: pytest.LogCaptureFixture) -> None:
    done = Flag()

    def failing() -> None:
        raise SystemExit("from a task")

    workers = pool.ThreadPool(1, "worker")
    workers.submit(failing)
    workers.submit(done.set)
    done.wait()
    assert "error in worker-1" in caplog.text
    (thread,) = workers._threads
    assert thread in workers
    assert threading.current_thread() not in workers
    assert workers.close(TIMEOUT)


def test_a_pool_does_not_wait_for_ever() -> None:
    release = Flag()
    workers = pool.ThreadPool(1, "worker")
    workers.submit(release.wait)
    (thread,) = workers._threads
    assert not workers.close(0.01)
    release.set()
    thread.join(TIMEOUT)


# ------------------------------------------------------------------------------------------ sockets


@pytest.mark.parametrize("form", ["socket", "int"])
def test_the_socket_may_be_given_as(form: str) -> None:
    class Hello(FcgiHandler):
        def handle(self) -> None:
            self.write(HEAD + b"hello")

    with listening_socket(socket.AF_UNIX) as (sock, address):
        with FcgiServer(Hello, sock if form == "socket" else sock.fileno()) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with WebServer(address) as web:
                assert web.request(params_for()).body == b"hello"
            server.shutdown()
            thread.join(TIMEOUT)
        assert sock.fileno() >= 0


SERVERS: dict[str, Callable[[Any], Any]] = {
    "FcgiServer": lambda sock: FcgiServer(FcgiHandler, sock),
    "FcgiThreadingServer": lambda sock: FcgiThreadingServer(FcgiHandler, sock),
    "AsyncFcgiServer": lambda sock: AsyncFcgiServer(AsyncFcgiHandler, sock),
}
make_server = pytest.mark.parametrize("make_server", SERVERS.values(), ids=SERVERS)


@make_server
def test_what_does_not_listen(make_server: Callable[[Any], Any]) -> None:
    with socket.socket() as unbound, pytest.raises(ConfigurationError, match="call bind.. and listen.. on it first"):
        make_server(unbound)
    here, there = socket.socketpair()
    with here, there, pytest.raises(ConfigurationError, match="is a connected socket, not a listening one"):
        make_server(here)
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(ConfigurationError, match="datagram"):
        make_server(datagrams)
    receiver, sender = os.pipe()
    try:
        with pytest.raises(ConfigurationError, match=f"fd {receiver} is a pipe, not a listening socket"):
            make_server(receiver)
    finally:
        os.close(receiver)
        os.close(sender)
    with pytest.raises(ConfigurationError, match=f"fd {receiver} is closed"):
        make_server(receiver)
    for wrong in ("0", None, 1.5, True):
        with pytest.raises(ConfigurationError, match="sockfd="):
            make_server(wrong)


def test_two_servers_in_one_process(serve: Serve) -> None:
    async def other(h: Handler) -> None:
        await h.write(HEAD + b"other")

    running = [serve(body) for body in (echo_path, other)]
    webs = [one.connect() for one in running]
    for _ in range(3):
        assert [web.request(params_for("/x")).body for web in webs] == [b"/x", b"other"]
    running[0].stop()
    assert webs[1].request(params_for("/x")).body == b"other"


def test_two_servers_on_one_socket() -> None:
    """As several processes would: each connection goes to one of them."""

    class Hello(FcgiHandler):
        def handle(self) -> None:
            self.write(HEAD + b"hello")

    with (
        listening_socket(socket.AF_UNIX) as (sock, address),
        FcgiServer(Hello, sock) as a,
        FcgiServer(Hello, sock) as b,
    ):
        threads = [threading.Thread(target=server.serve_forever) for server in (a, b)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            with WebServer(address) as web:
                assert web.request(params_for()).body == b"hello"
        for server, thread in zip((a, b), threads, strict=True):
            server.shutdown()
            thread.join(TIMEOUT)


@ASYNC
def test_two_servers_on_one_loop(serve: Serve) -> None:
    """And other tasks beside them."""
    running = serve(echo_path)

    async def second(sock: socket.socket, started: Flag) -> None:
        class Second(AsyncFcgiHandler):
            async def handle(self) -> None:
                await self.write(HEAD + b"second")

        async with AsyncFcgiServer(Second, sock) as server:
            serving = asyncio.ensure_future(server.serve_forever())
            started.set()
            await asyncio.sleep(0)
            servers.append(server)
            await serving

    servers: list[AsyncFcgiServer] = []
    started = Flag()
    with listening_socket(socket.AF_UNIX) as (sock, address):
        future = running.submit(second(sock, started))
        started.wait()
        with WebServer(address) as web:
            assert web.request(params_for()).body == b"second"
            assert running.request("/first").body == b"/first"
        running.submit(servers[0].shutdown()).result(TIMEOUT)
        future.result(TIMEOUT)
    assert running.request("/first").body == b"/first"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_lifespan(loop: str) -> None:
    """What handlers share is entered before the first connection, and left behind the last request."""
    events: list[str] = []
    ready = Flag()
    servers: list[AsyncFcgiServer] = []

    class Life:
        async def __aenter__(self) -> None:
            events.append("enter")

        async def __aexit__(self, *_: object) -> None:
            events.append("exit")

    class Shared(AsyncFcgiHandler):
        @classmethod
        def lifespan(cls, server: AsyncFcgiServer) -> Life:
            return Life()

        async def handle(self) -> None:
            events.append("handle")
            await self.write(HEAD)

    class Telling(AsyncFcgiServer):
        def started(self) -> None:
            events.append("started")
            ready.set()

    async def main(sock: socket.socket) -> None:
        async with Telling(Shared, sock, limits=Limits(graceful_timeout=TIMEOUT)) as server:
            servers.append(server)
            await server.serve_forever()

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with listening_socket(socket.AF_UNIX) as (sock, address):

        def run() -> None:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main(sock))

        thread = threading.Thread(target=run)
        thread.start()
        ready.wait()
        with WebServer(address) as web:
            assert web.request(params_for()).status == 200
            (server,) = servers
            asyncio.run_coroutine_threadsafe(server.shutdown(), server.get_loop()).result(TIMEOUT)
        thread.join(TIMEOUT)
    assert events == ["enter", "started", "handle", "exit"]


# ------------------------------------------------------------------------------------------ within


@SYNC
@pytest.mark.parametrize("kind", [LookupError, MemoryError])
def test_an_error_of_our_own_closes_one_connection(
    serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """The loop goes on, and says so. That there is no memory is no error of ours."""
    running = serve(echo_path)
    other = running.connect()
    assert other.request(params_for("/x")).body == b"/x"
    web = running.connect()
    until(lambda: len(running.connections()) == 2)

    def receive_events(connection: Connection) -> None:
        if not select.select([connection.fd], [], [], 0)[0]:
            # The look at a connection that has just been accepted.
            return
        monkeypatch.undo()
        # A new one: whoever kept it would keep the server by its traceback.
        raise kind("a bug")

    monkeypatch.setattr(Connection, "receive_events", receive_events)
    web.send(encode_request(params_for()))
    assert web.at_eof()
    if kind is MemoryError:
        log.claim("connection from a unix socket closed: there was no memory for what it sends")
    else:
        assert "a bug" in log.claim_failure("an error of this package")
        log.claim("connection from a unix socket closed: a bug")
    assert other.request(params_for("/x")).body == b"/x"


@kinds("sync")
def test_a_server_that_has_threads_of_its_own(serve: Serve) -> None:
    """Its first request does not keep a new connection from being listened to."""
    release, begun = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.wait(release)
        await echo_path(h)

    def process_request(server: Any, *arguments: Any) -> None:
        threading.Thread(target=lambda: FcgiServer.process_request(server, *arguments), name="own").start()

    running = serve(body, server={"process_request": process_request})
    web = running.connect()
    web.send(encode_request(params_for("/x")))
    begun.wait()
    web.send(encode_record(FCGI_GET_VALUES, 0))
    assert web.record().type == FCGI_GET_VALUES_RESULT
    release.set()
    assert web.response().body == b"/x"
    assert web.request(params_for("/y")).body == b"/y"


@kinds("sync", "selector", "threads")
def test_a_connection_for_which_the_poller_has_no_room(serve: Serve, log: Log) -> None:
    """It is closed, and the others are served."""
    running = serve(echo_path)
    other = running.connect()
    # Of the second one the server hears because it knows the connection.
    for _ in range(2):
        assert other.request(params_for("/x")).body == b"/x"
    register = running.server._poller.register

    def full(*_: Any) -> None:
        running.server._poller.register = register
        raise OSError("no room")

    running.server._poller.register = full
    web = running.connect()
    # It may be closed before that.
    with suppress(ConnectionError):
        web.send(encode_request(params_for()))
    until(lambda: running.server._poller.register is register)
    log.claim("connection from a unix socket closed: no room")
    assert other.request(params_for("/y")).body == b"/y"
    until(lambda: len(running.connections()) == 1)


def test_a_connection_that_was_closed_under_a_thread() -> None:
    """What a handler's thread may still do with it: nothing waits, and nothing raises but what is promised."""
    here, there = socket.socketpair()
    with there:
        connection = Connection()
        connection.open(here.detach(), "", Terms(), lambda *_: None, 0.0)
        connection.lose()
        connection.close()
        connection._wait(TIMEOUT, reading=False, sending=True)
        assert connection.gone
        connection.send_owed()
        connection.stop_sending()
        assert connection.receive()
        assert isinstance(connection.error, OSError)


# ------------------------------------------------------------------------------------------ pollers


@pytest.mark.parametrize("make", [poller.EpollPoller, poller.SelectorPoller])
def test_pollers(make: Callable[[], Any]) -> None:
    here, there = socket.socketpair()
    tested = make()
    fd = here.fileno()
    with here, there:
        tested.register(fd, poller.READ)
        assert tested.poll(0, 8) == []
        there.send(b"x")
        assert tested.poll(TIMEOUT, 8) == [(fd, poller.READ)]
        tested.modify(fd, poller.READ | poller.WRITE)
        assert tested.poll(TIMEOUT, 8) == [(fd, poller.READ | poller.WRITE)]
        tested.modify(fd, poller.WRITE)
        assert tested.poll(TIMEOUT, 8) == [(fd, poller.WRITE)]
        for _ in range(2):
            tested.modify(fd, 0)
            assert tested.poll(0, 8) == []
        tested.modify(fd, poller.READ)
        assert tested.poll(TIMEOUT, 8) == [(fd, poller.READ)]
        tested.modify(fd, 0)
        tested.unregister(fd)
        tested.register(fd, poller.READ)
        tested.unregister(fd)
        assert tested.poll(0, 8) == []
    tested.close()


@ASYNC
def test_a_task_factory_makes_the_tasks_of_requests(serve: Serve) -> None:
    """On Python 3.12 and later, where a request's first step is made at once otherwise, too."""
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def body(h: Handler) -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await echo_path(h)

    web = serve(body).connect()
    web.request(params_for("/first"))
    assert not made
    assert web.request(params_for("/second")).stdout == HEAD + b"/second"
    assert made == ["AsyncFcgiServer._serve"]
