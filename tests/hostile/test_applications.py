"""Applications that misbehave: their own request suffers, and nobody else's.

What each web server is told in each case stands in tests/gateways; here it is about the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.constants import FCGI_END_REQUEST
from tests.hostile.apps import MISBEHAVIOURS
from tests.hostile.support import FULL, MEGABYTE, exchange
from tests.support.webserver import encode_request, params_for

if TYPE_CHECKING:
    from tests.hostile.conftest import Start
    from tests.hostile.support import Server

pytestmark = [pytest.mark.slow, *([pytest.mark.timeout(900)] if FULL else [])]

SIZE = (200 if FULL else 32) * MEGABYTE


def test_errors_without_end(start_native: Start) -> None:
    """FCGI_STDERR is bounded as FCGI_STDOUT is."""
    server = start_native()
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        flood = encode_request(params_for(f"/?{SIZE}"))
        got = exchange(web, flood, answers=1, rate=4 * SIZE, between=ordeal.goes_on_meanwhile)
        assert got.received > SIZE * 0.9


def test_errors_that_nobody_reads(start_native: Start) -> None:
    server = start_native()
    with server.ordeal(complaints=0) as ordeal, server.connect() as web:
        web.send(encode_request(params_for(f"/?{1 << 40}")))
        web.socket.recv(1)
        ordeal.goes_on_meanwhile()
        assert not server.is_busy_for_nothing()


def test_misbehaviour(server: Server) -> None:
    """Many times, which leaves nothing behind."""
    with server.ordeal() as ordeal:
        for misbehaviour in MISBEHAVIOURS * 10:
            with server.connect() as web:
                web.send(encode_request(params_for(f"/misbehave/{misbehaviour}")))
                try:
                    while web.record().type != FCGI_END_REQUEST:
                        pass
                except (EOFError, ConnectionResetError):
                    # Cut, so that the web server can tell.
                    pass
                except TimeoutError:
                    pytest.fail(f"{misbehaviour}: it never ends")
        ordeal.goes_on()


@pytest.mark.parametrize("misbehaviour", ["goes-on", "waits-on"])
def test_nobody_listens_any_more(server: Server, misbehaviour: str) -> None:
    """The web server has left, and the application does not care."""
    with server.ordeal() as ordeal:
        for _ in range(20):
            with server.connect() as web:
                web.send(encode_request(params_for(f"/misbehave/{misbehaviour}")))
                web.socket.recv(1)
            ordeal.goes_on()
