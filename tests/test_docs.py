"""What the documentation promises to cover, and its examples; that it builds without a warning is `make docs`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import simple_fastcgi
from simple_fastcgi.protocol.constants import FCGI_AUTHORIZER, FCGI_DATA, FCGI_FILTER, FCGI_UNKNOWN_ROLE
from tests.support.examples import ROOT, blocks_of, check_nginx, spawned
from tests.support.webserver import params_for, stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.once

DOCS = ROOT / "docs"
ROLES = (DOCS / "roles.md").read_text(encoding="utf-8")


def test_api_page_has_every_public_name() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE)) == sorted(simple_fastcgi.__all__)


def example(name: str) -> str:
    (found,) = [block for block in blocks_of(ROLES, "python") if block.startswith(f"# {name}\n")]
    return found


def test_the_authorizer_as_it_stands(tmp_path: Path) -> None:
    with spawned(example("guard.py"), tmp_path) as web_server:
        web_server.begin(params_for("/", HTTP_AUTHORIZATION="Bearer sesame"), role=FCGI_AUTHORIZER)
        assert web_server.response().stdout == b"Status: 200 OK\r\nVariable-APP_USER: ali\r\n\r\n"
        web_server.begin(params_for("/"), role=FCGI_AUTHORIZER)
        denied = web_server.response()
        assert (denied.status, denied.head["www-authenticate"], denied.body) == (401, "Bearer", b"Who are you?\n")
        assert web_server.request(params_for("/")).protocol_status == FCGI_UNKNOWN_ROLE


def test_the_filter_as_it_stands(tmp_path: Path) -> None:
    with spawned(example("lines.py"), tmp_path) as web_server:
        for length, status, body in (("8", 200, b"1 one\n2 two\n"), ("9", 500, b"A part of the file is missing.\n")):
            web_server.begin(params_for("/", FCGI_DATA_LENGTH=length), role=FCGI_FILTER)
            web_server.body(b"", end=True)
            web_server.send(b"".join(stream(FCGI_DATA, 1, b"one\ntwo\n")))
            response = web_server.response()
            assert (response.status, response.body) == (status, body)


def test_nginx_accepts_the_configuration_of_an_authorizer(tmp_path: Path, program: Callable[[str], str]) -> None:
    (locations,) = blocks_of(ROLES, "nginx")
    check_nginx(program("nginx"), f"server {{ {locations} }}", tmp_path)
