"""Handlers that raise: before the start of their response, after it, and in every way that Python has."""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.protocol.constants import (
    FCGI_END_REQUEST,
    FCGI_KEEP_CONN,
    FCGI_RESPONDER,
    FCGI_STDERR,
    FCGI_STDOUT,
)
from simple_fastcgi.protocol.records import encode_begin_request
from tests.servers.support import ASYNC, CONCURRENT, HEAD, SYNC, TIMEOUT, Flag, kinds, until
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.support import Handler, Log, Serve
    from tests.support.webserver import Response, WebServer


class OwnError(Exception):
    pass


class OwnBaseError(BaseException):
    pass


ERRORS: list[type[BaseException]] = [ValueError, OwnError, OwnBaseError, SystemExit, KeyboardInterrupt, GeneratorExit]
ERRORS += [StopIteration, ConnectionResetError, TimeoutError, MemoryError]
error = pytest.mark.parametrize("error", ERRORS)


def is_plain_500(response: Response) -> bool:
    assert response.head["content-type"] == "text/plain; charset=utf-8"
    assert response.body == b"Internal Server Error\n"
    assert (response.app_status, response.protocol_status) == (0, 0)
    return response.status == 500


def is_cut_short(web: WebServer, request_id: int = 1) -> tuple[bytes, bytes]:
    """Read a response that breaks off as web servers can see it: no END_REQUEST, but an odd id; what came before."""
    stdout = stderr = b""
    while (record := web.record()).id == request_id:
        assert record.type != FCGI_END_REQUEST
        if record.type == FCGI_STDOUT:
            stdout += record.content
        else:
            assert record.type == FCGI_STDERR
            stderr += record.content
    assert record.type == FCGI_STDOUT
    assert record.content == b""
    web.eof()
    return stdout, stderr


@error
def test_an_error_before_the_response(serve: Serve, log: Log, error: type[BaseException]) -> None:
    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/next":
            await h.write(HEAD)
            return
        # It was written, but nobody has seen it.
        await h.write(b"Status: 200 OK\r\n\r\nmuch")
        await h.write_err(b"what led to it\n")
        raise error("what happened")

    web = serve(body).connect()
    response = web.request(params_for("/bad?x=y", HTTP_X_REQUEST_ID="r-1"))
    assert is_plain_500(response)
    assert response.stderr.startswith(b"what led to it\nTraceback (most recent call last):\n")
    assert b"what happened" in response.stderr
    # Web servers show a page, and never what it is made of.
    assert b"what happened" not in response.stdout
    (record,) = log.records
    told = record.fcgi  # type: ignore[attr-defined]
    assert {"method": "GET", "uri": "/bad?x=y", "status": 500, "request_id": "r-1"}.items() <= told.items()
    assert (told["event"], told["aborted"], told["failed"]) == ("failed", False, True)
    traceback = log.claim_failure("GET /bad?x=y failed")
    assert "what happened" in traceback
    assert traceback.strip() in response.stderr.decode()
    # Neither the connection nor the server suffers.
    assert web.request(params_for("/next")).status == 200


@error
def test_an_error_after_the_start(serve: Serve, log: Log, error: type[BaseException]) -> None:
    async def body(h: Handler) -> None:
        await h.write(HEAD + b"first", flush=True)
        await h.write(b"never sent")
        raise error("what happened")

    running = serve(body)
    web = running.connect()
    web.send(encode_request(params_for("/bad")))
    stdout, stderr = is_cut_short(web)
    assert stdout == HEAD + b"first"
    assert b"what happened" in stderr
    log.claim_failure("GET /bad failed")
    web.close()
    until(lambda: not running.connections())


def test_tracebacks_begin_with_the_application(serve: Serve, log: Log) -> None:
    """And go on with what it calls."""

    async def body(h: Handler) -> None:
        raise ValueError("here")

    serve(body).request()
    traceback = log.claim_failure("GET / failed")
    assert "simple_fastcgi/" not in traceback
    assert "socketserver" not in traceback
    assert "in body" in traceback


def test_the_log_line_is_one_line(serve: Serve, log: Log) -> None:
    """Whatever is in the URL."""

    async def body(h: Handler) -> None:
        raise ValueError

    serve(body).connect().request(params_for("/\r\nFAKE \xe9", REQUEST_METHOD="PO\nST"))
    log.claim_failure("PO\\nST /\\r\\nFAKE \\xe9 failed")


def test_an_error_on_a_connection_that_is_not_kept(serve: Serve, log: Log, family: socket.AddressFamily) -> None:
    async def body(h: Handler) -> None:
        raise ValueError

    web = serve(body, family=family).connect()
    assert is_plain_500(web.request(params_for(), keep=False))
    web.eof()
    log.claim_failure("GET / failed")


def test_an_error_before_the_body_has_come(serve: Serve, log: Log, family: socket.AddressFamily) -> None:
    """The web server is still sending: it sees the answer and no reset."""

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/started":
            await h.write(HEAD, flush=True)
        raise ValueError

    running = serve(body, family=family)
    web = running.connect()
    web.begin(params_for("/early"), keep=False)
    web.body(bytes(100_000))
    assert is_plain_500(web.response())
    web.eof()
    web.body(b"", end=True)
    log.claim_failure("GET /early failed")
    web = running.connect()
    web.begin(params_for("/started"))
    web.body(bytes(100_000))
    assert is_cut_short(web)[0] == HEAD
    web.body(b"", end=True)
    log.claim_failure("GET /started failed")


def test_errors_that_nobody_reads_yet(serve: Serve, log: Log) -> None:
    """Long ones, so that they do not leave at once."""

    async def body(h: Handler) -> None:
        raise ValueError("x" * 60_000)

    running = serve(body)
    web = running.connect()
    ids = range(1, 21)
    web.send(b"".join(encode_request({}, request_id=i) for i in ids))
    for response in web.responses(ids).values():
        assert is_plain_500(response)
        assert b"x" * 60_000 in response.stderr
    for _ in ids:
        log.claim_failure("failed")


def test_a_cut_waits_for_the_other_requests(serve: Serve, log: Log) -> None:
    """The connection closes, but not before those are answered."""

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/bad":
            await h.write(HEAD, flush=True)
            raise ValueError
        await h.read()
        await h.write(HEAD + b"good")

    web = serve(body).connect()
    bad = encode_request(params_for("/bad"), request_id=1)
    web.send(bad + encode_request(params_for("/good"), request_id=2, end_stdin=False))
    assert (record := web.record()).id == 1
    assert record.content == HEAD
    assert (record := web.record()).id == 1
    assert (record.type, record.content[:9]) == (FCGI_STDERR, b"Traceback")
    web.body(b"body", request_id=2, end=True)
    response = web.response(2)
    assert response.body == b"good"
    assert web.record().id not in (1, 2)
    web.eof()
    log.claim_failure("GET /bad failed")


@CONCURRENT
@pytest.mark.usefixtures("attentive")
def test_a_cut_waits_no_longer_than_the_graceful_time(serve: Serve, log: Log) -> None:
    """A stream that never ends must not keep the visitor of a broken response, nor all later ones, waiting."""
    aborted = Flag()

    async def body(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        if h.environ["PATH_INFO"] == "/bad":
            raise ValueError
        await h.until_aborted()
        with pytest.raises(ConnectionAbortedError):
            await h.write(b"tick", flush=True)
        aborted.set()

    running = serve(body, limits={"graceful_timeout": 0.2})
    web = running.connect()
    web.send(encode_request(params_for("/stream")))
    assert web.record().content == HEAD
    web.send(encode_request(params_for("/bad"), request_id=2))
    is_cut_short(web, 2)
    aborted.wait()
    log.claim_failure("GET /bad failed")
    log.claim("closed: what was under way beside a broken response took more than 0.2 s (graceful_timeout)")


def test_a_cut_that_a_half_close_sets_free(serve: Serve, log: Log) -> None:
    """The request that a cut waits for never comes to an end, for the web server has ended its sending."""

    async def body(h: Handler) -> None:
        await h.write(HEAD, flush=True)
        raise OwnError("what happened")

    # Nobody waits so long.
    web = serve(body, limits={"linger_timeout": 10 * TIMEOUT}).connect()
    web.send(encode_request(params_for()) + encode_begin_request(2, FCGI_RESPONDER, FCGI_KEEP_CONN))
    assert web.record().type == FCGI_STDOUT
    assert web.record().type == FCGI_STDERR
    web.socket.shutdown(socket.SHUT_WR)
    is_cut_short(web)
    assert "what happened" in log.claim_failure("failed")


def test_an_error_in_the_making_of_a_handler(serve: Serve, log: Log) -> None:
    def failing(self: Any, *arguments: Any) -> None:
        raise OwnError("made wrong")

    async def body(h: Handler) -> None:
        raise AssertionError("never called")

    response = serve(body, handler={"__init__": failing}).request()
    assert is_plain_500(response)
    assert b"made wrong" in response.stderr
    log.claim_failure("GET / failed")


@SYNC
@pytest.mark.parametrize("where", ["setup", "finish"])
def test_an_error_around_handle(serve: Serve, log: Log, where: str) -> None:
    def failing(self: Any) -> None:
        raise OwnError(where)

    async def body(h: Handler) -> None:
        await h.write(HEAD)

    assert is_plain_500(serve(body, handler={where: failing}).request())
    log.claim_failure("GET / failed")


def test_an_error_of_one_who_was_left(serve: Serve, log: Log) -> None:
    """The web server hung up, but that is not what the handler failed of."""
    begun = Flag()

    async def body(h: Handler) -> None:
        begun.set()
        await h.until_aborted()
        raise OwnError("of its own")

    with serve(body).connect() as web:
        web.send(encode_request(params_for()))
        begun.wait()
    assert "of its own" in log.claim_failure("GET / failed")


def test_an_error_that_a_hang_up_caused(serve: Serve) -> None:
    """What frameworks make of a ConnectionError is no failure either: nothing is logged."""
    begun, done = Flag(), Flag()

    async def body(h: Handler) -> None:
        begun.set()
        try:
            await h.readall()
        except ConnectionError as error:
            done.set()
            raise OwnError from error

    running = serve(body)
    with running.connect() as web:
        web.begin(params_for())
        begun.wait()
    done.wait()
    until(lambda: not running.connections())


def test_a_response_may_be_ended_before_the_handler(serve: Serve, family: socket.AddressFamily) -> None:
    """As gateways do, when they know that a response is whole: the handler goes on without a voice."""
    ended, done = Flag(), Flag()

    async def body(h: Handler) -> None:
        await h.write(HEAD)
        h.real.request.end()
        h.real.request.end()
        h.real.request.fail(b"too late")
        await h.wait(ended)
        await h.write(b"too late")
        await h.write(b"too late", flush=True)
        await h.write_err(b"too late")
        done.set()

    running = serve(body, family=family)
    for keep in (True, False):
        ended, done = Flag(), Flag()
        web = running.connect()
        assert web.request(params_for(), keep=keep).stdout == HEAD
        ended.set()
        done.wait()
        if keep:
            web.close()
        else:
            web.eof()


@SYNC
def test_two_threads_that_end_one_response(serve: Serve) -> None:
    """The slower one does nothing, whichever request is under way by then."""
    ended: list[Any] = []

    async def body(h: Handler) -> None:
        for request in ended:
            # What request.end() does once it has looked whether it is the first.
            assert request.connection.end(request.core, b"late", 1)
        ended.append(h.real.request)
        await h.write(HEAD + h.environ["PATH_INFO"].encode())

    web = serve(body).connect()
    for i in range(3):
        response = web.request(params_for(f"/{i}"))
        assert response.body == f"/{i}".encode()
        assert response.app_status == 0


@SYNC
@pytest.mark.parametrize("keep", [True, False])
def test_a_response_that_a_thread_of_the_handler_ends(serve: Serve, family: socket.AddressFamily, keep: bool) -> None:
    """The connection goes on, or is closed, as if the handler had ended it, though no event has told of it so far."""
    busy, sent = Flag(), Flag()

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/busy":
            busy.set()
            await h.wait(sent)
        await h.write(HEAD + h.environ["PATH_INFO"].encode())
        thread = threading.Thread(target=h.real.request.end)
        thread.start()
        thread.join()

    running = serve(body, family=family)
    first = running.connect()
    first.send(encode_request(params_for("/busy")))
    busy.wait()
    # The request is there when its connection is accepted.
    web = running.connect()
    web.send(encode_request(params_for("/1"), keep=keep))
    sent.set()
    assert first.response().body == b"/busy"
    assert web.response().body == b"/1"
    if keep:
        assert web.request(params_for("/2")).body == b"/2"
    first.close()
    web.close()
    until(lambda: not running.connections())


@ASYNC
@pytest.mark.parametrize("fails", [False, True])
def test_a_response_may_be_ended_soon(serve: Serve, log: Log, fails: bool) -> None:
    """What fails at once behind a whole response is told on FCGI_STDERR, and the response stays as it is."""

    async def body(h: Handler) -> None:
        await h.write(HEAD + b"whole")
        h.real.request.end_soon()
        if fails:
            raise OwnError("behind it")

    response = serve(body).request()
    assert response.body == b"whole"
    assert (b"behind it" in response.stderr) == fails
    if fails:
        log.claim_failure("GET / failed")


# ------------------------------------------------------------------------------------------ handle_error


def test_handle_error_may_be_extended(serve: Serve, log: Log) -> None:
    seen: list[Any] = []

    def handle_error(self: Any, request: Any, client_address: Any) -> None:
        seen.append((sys.exception(), request.params["PATH_INFO"], client_address))
        super(type(self), self).handle_error(request, client_address)

    async def body(h: Handler) -> None:
        raise OwnError

    assert is_plain_500(serve(body, server={"handle_error": handle_error}).request("/x"))
    ((exception, path, client_address),) = seen
    assert isinstance(exception, OwnError)
    assert (path, client_address) == ("/x", "")
    log.claim_failure("GET /x failed")


def test_handle_error_without_an_error(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        h.real.server.handle_error(h.real.request, "")
        await h.write(HEAD)

    assert serve(body).request().stdout == HEAD


@error
def test_handle_error_may_be_replaced(serve: Serve, error: type[BaseException]) -> None:
    """It reports as it likes; what failed never looks complete all the same."""
    seen: list[Any] = []

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/started":
            await h.write(HEAD, flush=True)
        raise error

    running = serve(body, server={"handle_error": lambda *_: seen.append(sys.exception())})
    response = running.request()
    assert is_plain_500(response)
    assert response.stderr == b""
    web = running.connect()
    web.send(encode_request(params_for("/started")))
    assert is_cut_short(web) == (HEAD, b"")
    assert len(seen) == 2


def test_handle_error_may_fail(serve: Serve, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request ends on the wire all the same, and the server goes on."""
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def handle_error(*_: Any) -> None:
        raise OwnError("of the error handler")

    async def body(h: Handler) -> None:
        raise ValueError

    running = serve(body, server={"handle_error": handle_error})
    assert is_plain_500(running.request())
    match running.kind.name:
        case "sync" | "selector" | "threads":
            log.claim_failure("error in TestedServer.handle_error")
        case "mixin":
            until(lambda: raised)
        case _:
            log.claim_failure("error while a request ended")
    assert running.thread.is_alive()


@kinds("threads")
@pytest.mark.parametrize("method", ["process_request_thread", "shutdown_request"])
def test_methods_that_end_a_request_may_fail(serve: Serve, log: Log, method: str) -> None:
    """Whoever waits for the answer hears so at once, and the log tells which of them it was."""

    def fail(*_: Any) -> None:
        raise OwnError("beside the handler")

    async def body(h: Handler) -> None:
        await h.write(HEAD)

    # A name of its own is what a traceback tells.
    fail.__code__ = fail.__code__.replace(co_name=method)
    running = serve(body, server={method: fail})
    for _ in range(2):
        assert is_plain_500(running.request())
        assert "OwnError: beside the handler" in log.claim_failure(f"error in TestedServer.{method}")
    assert running.thread.is_alive()


def test_verify_request_refuses(serve: Serve) -> None:
    def verify_request(self: Any, request: Any, client_address: Any) -> bool:
        assert client_address == ""
        return bool(request.params["PATH_INFO"] == "/good")

    async def body(h: Handler) -> None:
        assert h.environ["PATH_INFO"] == "/good"
        await h.write(HEAD)

    running = serve(body, server={"verify_request": serve.kind.method(verify_request)})
    web = running.connect()
    for _ in range(2):
        response = web.request(params_for("/bad"), b"body")
        assert (response.status, response.body) == (403, b"Forbidden\n")
        assert web.request(params_for("/good")).status == 200


@error
def test_verify_request_fails(serve: Serve, log: Log, error: type[BaseException]) -> None:
    def verify_request(*_: Any) -> bool:
        raise error("in verify_request")

    async def body(h: Handler) -> None:
        raise AssertionError("never called")

    running = serve(body, server={"verify_request": serve.kind.method(verify_request)})
    response = running.request()
    assert is_plain_500(response)
    if not serve.kind.is_async and not issubclass(error, Exception):
        # As in the standard library it ends serve_forever.
        with pytest.raises(error):
            running.wait_for_end()
        return
    assert b"in verify_request" in response.stderr
    log.claim_failure("GET / failed")


@SYNC
def test_process_request_may_be_extended(serve: Serve) -> None:
    seen: list[Any] = []

    def process_request(self: Any, request: Any, client_address: Any) -> None:
        seen.append(threading.get_ident() == self._loop_thread)
        super(type(self), self).process_request(request, client_address)

    async def body(h: Handler) -> None:
        await h.write(HEAD)

    assert serve(body, server={"process_request": process_request}).request().status == 200
    assert seen == [True]


@SYNC
def test_every_step_may_be_extended(serve: Serve) -> None:
    """What is skipped, because it is empty, where nobody has done so."""
    steps: list[str] = []

    def noted(name: str) -> Callable[..., None]:
        def step(self: Any, *arguments: Any) -> None:
            steps.append(name)
            getattr(super(type(self), self), name)(*arguments)

        return step

    async def body(h: Handler) -> None:
        steps.append("handle")
        await h.write(HEAD)

    running = serve(
        body,
        handler={name: noted(name) for name in ("__init__", "setup", "finish")},
        server={name: noted(name) for name in ("finish_request", "shutdown_request")},
    )
    assert running.request().status == 200
    assert steps == ["finish_request", "__init__", "setup", "handle", "finish", "shutdown_request"]


@SYNC
@pytest.mark.parametrize("name", ("setup", "finish"))
def test_one_step_of_a_handler_may_be_extended(serve: Serve, name: str) -> None:
    done: list[str] = []

    async def body(h: Handler) -> None:
        await h.write(HEAD)

    assert serve(body, handler={name: lambda _: done.append(name)}).request().status == 200
    assert done == [name]


@pytest.mark.parametrize(("error", "status"), [(SystemExit(), 0), (SystemExit(3), 3), (ValueError(), 1)], ids=repr)
def test_a_process_that_a_handler_forks_is_no_server(serve: Serve, error: BaseException, status: int) -> None:
    """Whatever it ends with, nobody hears of it but whoever waits for it."""

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/forks":
            child = os.fork()
            if not child:
                raise error
            _, ended = os.waitpid(child, 0)
            await h.write(HEAD + b"%d" % os.waitstatus_to_exitcode(ended))
        else:
            await h.write(HEAD + b"served")

    web = serve(body).connect()
    for _ in range(2):
        assert web.request(params_for("/forks")).body == b"%d" % status
        assert web.request(params_for("/next")).body == b"served"


@kinds("mixin", "threads")
@pytest.mark.parametrize("name", ["process_request_thread", "shutdown_request"])
def test_one_step_in_a_thread_may_be_extended(serve: Serve, name: str) -> None:
    """On a server in whose thread all of them are called otherwise, too."""
    names: list[str] = []

    async def body(h: Handler) -> None:
        names.append(h.environ["PATH_INFO"])
        await h.write(HEAD)

    def step(self: Any, *arguments: Any) -> None:
        names.append(name)
        getattr(super(type(self), self), name)(*arguments)

    web = serve(body, server={name: step}).connect()
    # More than it takes until a thread leads.
    paths = [f"/{number}" for number in range(100)]
    for path in paths:
        assert web.request(params_for(path)).status == 200
    until(lambda: len(names) == 200)
    assert sorted(names) == sorted([*paths, *[name] * 100])


@SYNC
def test_process_request_may_refuse(serve: Serve) -> None:
    """As for any BaseServer, closing a request ends it."""

    def process_request(self: Any, request: Any, client_address: Any) -> None:
        request.write(b"Status: 429 Too Many Requests\r\n\r\n")
        self.close_request(request)

    async def body(h: Handler) -> None:
        raise AssertionError("never called")

    web = serve(body, server={"process_request": process_request}).connect()
    for _ in range(2):
        assert web.request(params_for()).status == 429


@SYNC
def test_process_request_fails(serve: Serve, log: Log) -> None:
    def process_request(*_: Any) -> None:
        raise OwnError

    async def body(h: Handler) -> None:
        raise AssertionError("never called")

    assert is_plain_500(serve(body, server={"process_request": process_request}).request())
    log.claim_failure("GET / failed")


@kinds("sync")
def test_process_request_may_put_off(serve: Serve) -> None:
    """A subclass that serves requests when and where it likes."""
    waiting: list[Callable[[], None]] = []

    def process_request(self: Any, request: Any, client_address: Any) -> None:
        waiting.append(lambda: super(type(self), self).process_request(request, client_address))

    def service_actions(self: Any) -> None:
        if len(waiting) == 3:
            for serve_one in reversed(waiting):
                serve_one()
            waiting.clear()

    async def body(h: Handler) -> None:
        await h.write(HEAD + h.environ["PATH_INFO"].encode())

    running = serve(body, server={"process_request": process_request, "service_actions": service_actions})
    web = running.connect()
    web.send(b"".join(encode_request(params_for(f"/{i}"), request_id=i) for i in (1, 2, 3)))
    assert [web.record().id for _ in range(9)] == [3, 3, 3, 2, 2, 2, 1, 1, 1]
