"""The same requests through transport, server and framework, and in-process: the same results."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from simple_fastcgi.testing import FcgiTestClient
from tests.client.apps import flask_app, starlette_app
from tests.client.cases import CASES, IN_FULL, NOT_LIKE_WSGI_TRANSPORT, as_expected, outcome

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have another client than httpx
    from starlette.testclient import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client.cases import Ask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture
def starlette(folder: Path) -> Iterator[FcgiTestClient]:
    with FcgiTestClient(starlette_app(folder), raise_app_exceptions=False, loop="asyncio") as client:
        yield client


@pytest.fixture
def flask(folder: Path) -> Iterator[FcgiTestClient]:
    with FcgiTestClient(flask_app(folder), raise_app_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("asks", CASES.values(), ids=CASES)
def test_starlette(starlette: FcgiTestClient, folder: Path, asks: list[Ask]) -> None:
    with TestClient(starlette_app(folder), raise_server_exceptions=False, follow_redirects=False) as direct:
        for ask in asks:
            assert outcome(ask.send(starlette)) == outcome(ask.send(direct))


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_LIKE_WSGI_TRANSPORT])
def test_flask(flask: FcgiTestClient, folder: Path, name: str) -> None:
    transport = httpx.WSGITransport(flask_app(folder), raise_app_exceptions=False)
    with httpx.Client(transport=transport, base_url="http://testserver") as direct:
        for ask in CASES[name]:
            assert outcome(ask.send(flask)) == outcome(ask.send(direct))


@pytest.mark.parametrize(("ask", "expected"), IN_FULL.values(), ids=IN_FULL)
def test_what_in_process_clients_do_not_do(
    starlette: FcgiTestClient, flask: FcgiTestClient, ask: Ask, expected: Any
) -> None:
    assert as_expected(ask.send(starlette), expected)
    assert as_expected(ask.send(flask), expected)


@pytest.mark.parametrize("framework", ("starlette", "flask"))
def test_errors_of_the_application_are_raised(folder: Path, framework: str) -> None:
    app: Any
    if framework == "starlette":
        app = starlette_app(folder)
    else:
        app = flask_app(folder)
        app.config["PROPAGATE_EXCEPTIONS"] = True
    with FcgiTestClient(app, loop="asyncio") as client:
        with pytest.raises(ValueError, match="it fails") as caught:
            client.get("/failing")
        assert caught.traceback[-1].name == "failing"
        assert client.get("/facts").status_code == 200
