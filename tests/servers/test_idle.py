"""An idle connection is small: a web server keeps many of them, and thousands are no reason to worry."""

from __future__ import annotations

import gc
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.limits import Limits
from tests.servers.support import HEAD, until
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from tests.servers.support import Handler, Running, Serve

MOST_BYTES = 950
"""Of the objects that are a connection's own, the event loop's transport aside; a dict that held one entry is 224,
a time of its own 24."""
_SHARED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, Limits)


async def echo_body(h: Handler) -> None:
    await h.write(HEAD + await h.read())


def reachable(connection: Any, server: object) -> dict[int, object]:
    """What `connection` leads to, by identity, without going through what it shares with all others."""
    apart = {id(server), id(getattr(connection, "loop", None)), id(getattr(connection, "transport", None))}
    found: dict[int, object] = {}
    waiting = [connection]
    while waiting:
        thing = waiting.pop()
        if id(thing) not in found and id(thing) not in apart and not isinstance(thing, _SHARED):
            found[id(thing)] = thing
            waiting.extend(gc.get_referents(thing))
    return found


def own_sizes(running: Running) -> list[dict[str, int]]:
    """For each connection the sizes of its own objects, those that no other connection leads to."""
    everything = [reachable(connection, running.server) for connection in running.connections()]
    sizes = []
    for mine in everything:
        others = {key for found in everything if found is not mine for key in found}
        sizes.append({repr(thing): sys.getsizeof(thing) for key, thing in mine.items() if key not in others})
    return sizes


def is_small(running: Running) -> bool:
    return all(sum(sizes.values()) <= MOST_BYTES for sizes in own_sizes(running))


def wait_until_small(running: Running) -> None:
    try:
        until(lambda: is_small(running))
    except AssertionError:
        pytest.fail(f"more than {MOST_BYTES} bytes: {own_sizes(running)}")


def test_an_idle_connection_is_small(serve: Serve) -> None:
    running = serve(echo_body)
    webs = [running.connect() for _ in range(3)]
    for web in webs:
        for _ in range(3):
            assert web.request(params_for(), b"a body").body == b"a body"
    wait_until_small(running)


def test_it_is_small_again_behind_unusual_requests(serve: Serve) -> None:
    """Several at once, parameters in pieces, one that was aborted."""
    running = serve(echo_body)
    webs = [running.connect() for _ in range(3)]
    for web in webs:
        for request_id in (1, 2, 3):
            web.send(encode_request(params_for(), b"body", request_id=request_id))
        assert {response.body for response in web.responses((1, 2, 3)).values()} == {b"body"}
        pieces = encode_request(params_for(), b"body")
        for start in range(0, len(pieces), 11):
            web.send(pieces[start : start + 11])
        assert web.response().body == b"body"
        web.send(encode_request(params_for(), b"more", end_stdin=False))
        web.abort()
        assert web.response().ended
    wait_until_small(running)
