"""`environ`, `server` and the other facts that a handler is given."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from tests.servers.support import HEAD, SYNC
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from tests.servers.support import Handler, Serve


async def echo(h: Handler) -> None:
    await h.send_response(200, "application/json", h.environ)


def ask(serve: Serve, pairs: Any, body: Any = echo) -> dict[str, str]:
    web = serve(body).connect()
    web.send(encode_request(pairs))
    environ: dict[str, str] = json.loads(web.response().body)
    return environ


def test_environ_is_what_the_web_server_sent(serve: Serve, family: socket.AddressFamily) -> None:
    params = params_for("/a/b?c=d", HTTP_X_EMPTY="", CONTENT_LENGTH="")
    response = serve(echo, family=family).request("/a/b?c=d")
    assert json.loads(response.body) == params_for("/a/b?c=d")
    assert ask(serve, params) == params


def test_names_are_in_upper_case(serve: Serve) -> None:
    assert ask(serve, [("Path_Info", "/x"), ("http_host", "h"), ("QUERY_STRING", "a=B")]) == {
        "PATH_INFO": "/x",
        "HTTP_HOST": "h",
        "QUERY_STRING": "a=B",
    }


def test_values_are_utf_8_and_nothing_is_lost(serve: Serve) -> None:
    # A latin-1 string stands for the bytes on the wire.
    raw = b"caf\xc3\xa9 \xff\xfe caf\xe9"
    environ = ask(serve, [("HTTP_X", raw.decode("latin-1")), ("N\xc3\xa4ME", "v"), ("Y", "\xf0\x9f\x90\x8d")])
    assert environ["HTTP_X"] == "café \udcff\udcfe caf\udce9"
    assert environ["HTTP_X"].encode("utf-8", "surrogateescape") == raw
    assert environ["NÄME"] == "v"
    assert environ["Y"] == "🐍"


def test_values_may_have_any_byte_and_any_length(serve: Serve) -> None:
    every_byte = bytes(range(256)) * 300
    environ = ask(serve, [("HTTP_X", every_byte.decode("latin-1")), ("N" * 300, "")])
    assert environ["HTTP_X"].encode("utf-8", "surrogateescape") == every_byte
    assert environ["N" * 300] == ""


def test_what_came_twice(serve: Serve) -> None:
    pairs = [("SCRIPT_NAME", "/x"), ("HTTP_X", "1"), ("SCRIPT_NAME", ""), ("HTTP_X", "2"), ("HTTP_COOKIE", "a=1")]
    pairs += [("HTTP_COOKIE", "b=2")]
    assert ask(serve, pairs) == {"SCRIPT_NAME": "", "HTTP_X": "1, 2", "HTTP_COOKIE": "a=1; b=2"}


def test_no_parameters_at_all(serve: Serve) -> None:
    assert ask(serve, []) == {}


def test_environ_belongs_to_its_request(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        assert h.environ is h.environ
        assert "MINE" not in h.environ
        h.environ["MINE"] = "1"
        del h.environ["SERVER_NAME"]
        await h.send_response(200, "application/json", h.environ)

    web = serve(body).connect()
    for _ in range(3):
        environ = json.loads(web.request(params_for("/")).body)
        assert environ["MINE"] == "1"
        assert "SERVER_NAME" not in environ


def test_environ_is_decoded_only_when_it_is_asked_for(serve: Serve) -> None:
    async def body(h: Handler) -> None:
        assert h.real._environ is None
        assert h.real.request.params["HTTP_X"] == "\xc3\xa9"
        assert h.real._environ is None
        assert h.environ["HTTP_X"] == "é"
        assert h.real._environ is h.environ
        await h.write(HEAD)

    assert serve(body).connect().request(params_for(HTTP_X="\xc3\xa9")).status == 200


def test_other_members(serve: Serve, family: socket.AddressFamily) -> None:
    seen: list[Any] = []

    async def body(h: Handler) -> None:
        seen.extend((h.real.server, h.real.role, h.real.client_address, h.aborted()))
        await h.write(HEAD)

    running = serve(body, family=family)
    web = running.connect()
    assert web.request(params_for()).status == 200
    server, role, client_address, aborted = seen
    assert server is running.server
    assert role == 1
    assert aborted is False
    assert client_address == (web.socket.getsockname() if family == socket.AF_INET else "")


def test_one_instance_for_each_request(serve: Serve) -> None:
    instances: list[Any] = []

    async def body(h: Handler) -> None:
        instances.append(h.real)
        await h.write(HEAD)

    web = serve(body).connect()
    for _ in range(3):
        web.request(params_for())
    assert len({id(instance) for instance in instances}) == 3


def test_handle_may_do_nothing(serve: Serve) -> None:
    async def body(_: Handler) -> None:
        pass

    response = serve(body).request()
    assert (response.stdout, response.stderr, response.app_status, response.protocol_status) == (b"", b"", 0, 0)


def test_the_base_class_does_nothing(serve: Serve) -> None:
    """Without `handle` a handler class gives empty responses."""

    async def body(_: Handler) -> None:
        raise AssertionError("not called")

    running = serve(body)
    handler_class = running.server.RequestHandlerClass
    del handler_class.handle
    assert running.request().stdout == b""


def test_a_subclass_may_extend_init(serve: Serve) -> None:
    made: list[Any] = []

    def extended(self: Any, request: Any, client_address: Any, server: Any) -> None:
        self.extra = "set before handle"
        made.append(server)
        super(type(self), self).__init__(request, client_address, server)

    async def body(h: Handler) -> None:
        assert h.real.extra == "set before handle"
        assert made == [h.real.server]
        await h.write(HEAD)

    assert serve(body, handler={"__init__": extended}).request().status == 200


@SYNC
def test_setup_and_finish_are_those_of_socketserver(serve: Serve) -> None:
    calls: list[str] = []

    async def body(h: Handler) -> None:
        calls.append("handle")
        await h.write(HEAD)

    members = {"setup": lambda _: calls.append("setup"), "finish": lambda _: calls.append("finish")}
    assert serve(body, handler=members).request().status == 200
    assert calls == ["setup", "handle", "finish"]
