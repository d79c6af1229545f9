"""Authorizers and Filters (FastCGI 1.0, 6.3 and 6.4), and requests in other roles than those declared."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi import AsyncAuthorizerMixin, AsyncFcgiHandler, AuthorizerMixin, FcgiHandler
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.protocol.constants import (
    FCGI_AUTHORIZER,
    FCGI_DATA,
    FCGI_FILTER,
    FCGI_RESPONDER,
    FCGI_UNKNOWN_ROLE,
)
from simple_fastcgi.protocol.records import encode_record
from tests.servers.support import HEAD, TINY, Flag
from tests.support.webserver import encode_request, params_for, stream

if TYPE_CHECKING:
    import socket

    from tests.servers.support import Handler, Log, Running, Serve
    from tests.support.webserver import Response, WebServer


# ------------------------------------------------------------------------------------------ Authorizer


@pytest.mark.parametrize("mixin", [AuthorizerMixin, AsyncAuthorizerMixin])
def test_roles_are_declared_once(mixin: type) -> None:
    """Pyright refuses ``roles = (1, 2)`` where two bases declare them, and knows those of the handler."""
    assert "roles" not in inspect.get_annotations(mixin)
    assert "roles" in vars(mixin)


def ask(running: Running, url: str = "/", *, keep: bool = True) -> Response:
    """As web servers ask an Authorizer: parameters, and nothing behind them."""
    with running.connect() as web:
        web.begin(params_for(url), role=FCGI_AUTHORIZER, keep=keep)
        response = web.response()
        if not keep:
            web.eof()
    assert response.protocol_status == 0
    return response


def test_allow(serve: Serve, family: socket.AddressFamily) -> None:
    async def body(h: Handler) -> None:
        assert h.real.role == FCGI_AUTHORIZER
        assert await h.read() == await h.read_data() == b""
        if h.environ["PATH_INFO"] == "/plain":
            await h.allow()
        else:
            await h.allow({"REMOTE_USER": "Zoë", "METHOD": h.environ["REQUEST_METHOD"]}, extra_headers=["X-User: z"])

    running = serve(body, authorizer=True, family=family)
    for keep in (True, False):
        assert ask(running, "/plain", keep=keep).stdout == b"Status: 200 OK\r\n\r\n"
        response = ask(running, keep=keep)
        assert response.stdout == (
            b"Status: 200 OK\r\nVariable-REMOTE_USER: Zo\xc3\xab\r\nVariable-METHOD: GET\r\nX-User: z\r\n\r\n"
        )


def test_deny(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        match h.environ["PATH_INFO"]:
            case "/plain":
                await h.deny()
            case "/challenge":
                await h.deny(401, data="who?", extra_headers=[("WWW-Authenticate", "Basic")])
            case "/elsewhere":
                await h.deny(302, "", extra_headers=["Location: /login"])
            case "/json":
                await h.deny(429, "application/json", {"wait": 5})
            case "/pieces":
                await h.deny(403, "text/html", h.generator("<p>", b"no"))

    running = serve(body, authorizer=True)
    assert ask(running, "/plain").stdout == b"Status: 403 Forbidden\r\nContent-Type: text/plain\r\n\r\n"
    challenge = ask(running, "/challenge")
    assert (challenge.status, challenge.head["www-authenticate"], challenge.body) == (401, "Basic", b"who?")
    elsewhere = ask(running, "/elsewhere")
    assert (elsewhere.status, elsewhere.head["location"], elsewhere.body) == (302, "/login", b"")
    assert (ask(running, "/json").status, ask(running, "/json").body) == (429, b'{"wait": 5}')
    assert ask(running, "/pieces").body == b"<p>no"


def test_what_is_refused_writes_nothing(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        wrong: Any
        for wrong in ({"A": "x\r\nY: z"}, {"A B": "x"}, {"": ""}, "text"):
            with pytest.raises(ValueError):
                await h.allow(wrong)
        with pytest.raises(ValueError):
            await h.allow(extra_headers=["A: \0"])
        for wrong in (200, 100, "403"):
            with pytest.raises(ValueError):
                await h.deny(wrong)
        with pytest.raises(ValueError):
            await h.deny(extra_headers=[("A", "\n")])
        with pytest.raises(TypeError):
            await h.deny(data=object())
        await h.deny(404)

    assert ask(serve(body, authorizer=True)).stdout.startswith(b"Status: 404 Not Found\r\n")


def test_who_allows_first_and_then_denies_has_failed(serve: Serve, log: Log) -> None:
    """A web server would see the first answer alone."""

    async def body(h: Handler) -> None:
        await h.allow()
        await (h.allow() if h.environ["PATH_INFO"] == "/twice" else h.deny())

    for url in ("/", "/twice"):
        assert ask(serve(body, authorizer=True), url).status == 500
        assert "the response has its head already" in log.claim_failure(f"GET {url} failed")


def test_silence_is_no_consent(serve: Serve) -> None:
    """Of an Authorizer; lighttpd takes an answer without a status for a grant. A Responder may be silent."""

    async def body(h: Handler) -> None:
        if h.environ["PATH_INFO"] == "/error":
            await h.write_err(b"hm")

    running = serve(body, authorizer=True, handler={"roles": (FCGI_RESPONDER, FCGI_AUTHORIZER)})
    assert ask(running).status == ask(running, keep=False).status == 403
    denied = ask(running, "/error")
    assert (denied.status, denied.stderr) == (403, b"hm")
    assert running.request().stdout == b""


def test_an_authorizer_that_fails_denies(serve: Serve, log: Log) -> None:
    async def body(h: Handler) -> None:
        await h.allow({"REMOTE_USER": "anybody"})
        raise LookupError("no database")

    response = ask(serve(body, authorizer=True), "/secret")
    assert response.status == 500
    assert b"Variable" not in response.stdout
    assert "no database" in log.claim_failure("GET /secret failed")


def test_mixins_declare_the_role() -> None:
    for mixin, handler in ((AuthorizerMixin, FcgiHandler), (AsyncAuthorizerMixin, AsyncFcgiHandler)):
        made: Any = type("Made", (mixin, handler), {})
        assert made.roles == (FCGI_AUTHORIZER,)
        both: Any = type("Both", (mixin, handler), {"roles": (FCGI_RESPONDER, FCGI_AUTHORIZER)})
        assert both.roles == (FCGI_RESPONDER, FCGI_AUTHORIZER)


# ------------------------------------------------------------------------------------------ Filter

IN, DATA = bytes(range(200)) * 7, bytes(range(256)) * 1200  # the second is more than max_buffered_input
FILTER = {"roles": (FCGI_FILTER,)}


def begin_filter(web: WebServer, url: str = "/", **params: str) -> None:
    web.begin(params_for(url, **params), role=FCGI_FILTER)


def send_data(web: WebServer, data: bytes, *, end: bool = False, size: int = 65528) -> None:
    web.send(b"".join(stream(FCGI_DATA, 1, data, end=end, size=size)))


async def data_by_pieces(h: Handler) -> bytes:
    taken = b""
    while piece := await h.read_data(999):
        assert len(piece) <= 999
        taken += piece
    return taken


async def data_into_buffer(h: Handler) -> bytes:
    taken, buffer = b"", bytearray(1000)
    while size := await h.readinto_data(memoryview(buffer).cast("I")):
        taken += buffer[:size]
    return taken


async def data_by_all(h: Handler) -> bytes:
    some = await h.read_data(5)
    return some + await h.readall() + await h.read_data()


WAYS = {"/all": data_by_all, "/pieces": data_by_pieces, "/into": data_into_buffer}


def test_the_data_of_a_filter(serve: Serve, family: socket.AddressFamily) -> None:
    async def body(h: Handler) -> None:
        assert await h.read() == IN
        assert await h.read_data(0) == b""
        assert await h.readinto_data(bytearray()) == 0
        data = await WAYS[h.environ["PATH_INFO"]](h)
        assert await h.read_data() == await h.read_data(5) == await h.read() == b""
        assert await h.readinto_data(bytearray(5)) == 0
        await h.write(HEAD + data)

    web = serve(body, handler=FILTER, family=family).connect()
    for way in WAYS:
        for data, size in ((b"", 1), (b"x", 1), (DATA[:3000], 7), (DATA, 65535)):
            begin_filter(web, way)
            web.body(IN, end=True)
            send_data(web, data, size=size, end=True)
            assert web.response().body == data, way


def test_data_is_waited_for(serve: Serve) -> None:
    """And what is there is given at once."""
    first, second, third = Flag(), Flag(), Flag()

    async def body(h: Handler) -> None:
        assert await h.read() == b"in"
        first.set()
        assert await h.read_data(100) == b"one"
        second.set()
        buffer = bytearray(100)
        assert await h.readinto_data(buffer) == 3
        assert buffer.startswith(b"two\0")
        third.set()
        await h.write(HEAD + await h.read_data())

    web = serve(body, handler=FILTER).connect()
    begin_filter(web)
    web.body(b"in", end=True)
    first.wait()
    send_data(web, b"one")
    second.wait()
    send_data(web, b"two")
    third.wait()
    send_data(web, b"three", size=2, end=True)
    assert web.response().body == b"three"


def test_wrong_arguments(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        wrong: Any
        for wrong in ("1", None, 1.5):
            with pytest.raises(TypeError):
                await h.read_data(wrong)
        for wrong in (b"immutable", "text", None):
            with pytest.raises(TypeError):
                await h.readinto_data(wrong)
        await h.write(HEAD + await h.read_data(sz=-1))

    web = serve(body, handler=FILTER).connect()
    begin_filter(web)
    web.body(b"", end=True)
    send_data(web, b"data", end=True)
    assert web.response().body == b"data"


def test_what_is_told_of_the_data(serve: Serve) -> None:
    """The length is what the web server tells; the end of the stream is the truth."""

    async def body(h: Handler) -> None:
        data = await h.read_data()
        await h.write(HEAD + repr((h.real.data_length, h.real.data_last_mod, len(data))).encode())

    web = serve(body, handler={"roles": (FCGI_RESPONDER, FCGI_FILTER)}).connect()
    for length, modified, told in (
        ("4", "1792000000", "(4, 1792000000, 4)"),
        ("9", "", "(9, None, 4)"),
        ("1", "x", ""),
    ):
        begin_filter(web, FCGI_DATA_LENGTH=length, FCGI_DATA_LAST_MOD=modified)
        web.body(b"", end=True)
        send_data(web, b"data", end=True)
        assert web.response().body.decode() == (told or "(1, None, 4)")
    # A Responder has none, whatever is sent.
    web.begin(params_for())
    send_data(web, b"data", end=True)
    web.body(b"body", end=True)
    assert web.response().body == b"(None, None, 0)"


def test_data_that_nobody_reads(serve: Serve) -> None:
    """A Filter may answer from its cache."""

    async def body(h: Handler) -> None:
        await h.read()
        await h.write(HEAD + b"cached")

    web = serve(body, handler=FILTER).connect()
    for _ in range(2):
        begin_filter(web)
        web.body(b"", end=True)
        assert web.response().body == b"cached"
        send_data(web, DATA * 3, end=True)
    web.begin(params_for(), role=FCGI_FILTER, keep=False)
    web.body(b"", end=True)
    assert web.response().body == b"cached"
    send_data(web, DATA * 3, end=True)
    web.eof()


def test_data_that_does_not_come(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        assert await h.read() == b""
        assert await h.read_data(100) == b"some"
        with pytest.raises(TimeoutError, match="read_timeout"):
            await h.read_data()
        await h.write(HEAD + b"told")

    web = serve(body, handler=FILTER, limits={"read_timeout": TINY}).connect()
    # In one piece: what comes so much later is too late.
    data = encode_record(FCGI_DATA, 1, b"some")
    web.send(encode_request(params_for(), role=FCGI_FILTER) + data)
    assert web.response().body == b"told"


def test_an_abort_in_the_middle_of_data(serve: Serve) -> None:
    reading, told = Flag(), Flag()

    async def body(h: Handler) -> None:
        assert await h.read() == b""
        assert await h.read_data(100) == b"some"
        reading.set()
        with pytest.raises(ConnectionAbortedError):
            await h.read_data()
        told.set()

    web = serve(body, handler=FILTER).connect()
    begin_filter(web)
    web.body(b"", end=True)
    send_data(web, b"some")
    reading.wait()
    web.abort()
    told.wait()
    assert web.response().protocol_status == 0


def test_data_behind_a_body_that_is_not_read(serve: Serve) -> None:
    """It can never arrive: the handler is told at once, not after `read_timeout`, and may still do it in turn."""
    told = Flag()

    async def body(h: Handler) -> None:
        with pytest.raises(RuntimeError, match=r"max_buffered_input: read FCGI_STDIN to its end"):
            await h.read_data()
        told.set()
        size = len(await h.read())
        await h.write(HEAD + b"%d %s" % (size, await h.read_data()))

    web = serve(body, handler=FILTER, limits={"max_buffered_input": 4096}).connect()
    begin_filter(web)
    web.body(IN * 20, end=True)
    told.wait()
    send_data(web, b"data", end=True)
    assert web.response().body == b"%d data" % (len(IN) * 20)


# ------------------------------------------------------------------------------------------ roles


def test_a_role_that_is_not_declared(serve: Serve, log: Log, family: socket.AddressFamily) -> None:
    """It is answered, told in the log once, and the connection goes on or closes as FCGI_KEEP_CONN says."""

    async def body(h: Handler) -> None:
        await h.write(HEAD + b"%d" % h.real.role)

    for roles in ((1,), (2,), [3], {1, 3}):
        running = serve(body, family=family, handler={"roles": roles})
        web = running.connect()
        for role in (1, 2, 3, 4, 0, 65535):
            web.begin(params_for(), role=role)
            if role in roles:
                web.body(b"", end=True)
                send_data(web, b"", end=True)
                assert web.response().body == b"%d" % role
            else:
                response = web.response()
                assert (response.status, response.protocol_status) == (500, FCGI_UNKNOWN_ROLE)
                assert response.body == b"The application does not serve requests in FastCGI role %d.\n" % role
        refused = next(role for role in (1, 2, 3) if role not in roles)
        web.begin(params_for(), role=refused, keep=False)
        assert web.response().protocol_status == FCGI_UNKNOWN_ROLE
        # The rest of its input is read before the close.
        if refused == FCGI_FILTER:
            web.body(b"late")
            send_data(web, b"late", end=True)
        elif refused == FCGI_RESPONDER:
            web.body(b"late", end=True)
        assert web.at_eof()
        names = {1: "Responder", 2: "Authorizer", 3: "Filter", 4: "unknown"}
        for role in {1, 2, 3, 4} - {*roles}:
            log.claim(f"role {role} ({names[role]}) are refused, for Tested has roles = {roles!r}: add it there")


@pytest.mark.parametrize("roles", [(), (4,), 1, "1", None], ids=repr)
def test_roles_that_are_none(serve: Serve, roles: Any) -> None:
    async def body(h: Handler) -> None: ...

    with pytest.raises(ConfigurationError, match=r"^Tested\.roles = .*: give .* for example roles = \(1,\)$"):
        serve(body, handler={"roles": roles})
