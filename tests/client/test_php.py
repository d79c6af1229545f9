"""Real PHP, called through the transports' blocking half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from simple_fastcgi.client import FcgiTransport
from tests.support.php import PING_PATH, STATUS_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.php import PhpFpm


@pytest.fixture
def client(php: PhpFpm) -> Iterator[httpx.Client]:
    transport = FcgiTransport(php.address, document_root=str(php.document_root))
    with httpx.Client(transport=transport, base_url="http://php") as client:
        yield client


def test_ping_and_status(client: httpx.Client) -> None:
    assert client.get(PING_PATH).text == "pong"
    assert client.get(f"{STATUS_PATH}?json").json()["pool"] == "www"


def test_get(php: PhpFpm, client: httpx.Client) -> None:
    php.add("get.php", 'echo $_SERVER["SCRIPT_NAME"], "|", $_SERVER["PATH_INFO"], "|", $_GET["a"];')
    response = client.get("/get.php/b/c?a=%C3%A4")
    assert (response.status_code, response.text) == (200, "/get.php|/b/c|ä")
    assert response.extensions["fastcgi_app_status"] == 0
