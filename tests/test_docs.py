"""What the documentation promises to cover, and its examples; that it builds without a warning is `make docs`."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import simple_fastcgi
from simple_fastcgi.protocol.constants import FCGI_AUTHORIZER, FCGI_DATA, FCGI_FILTER, FCGI_UNKNOWN_ROLE
from simple_fastcgi.testing import AppServer
from tests.support.examples import ROOT, blocks_of, check_nginx, spawned
from tests.support.webserver import params_for, stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.php import PhpFpm

pytestmark = [pytest.mark.once, pytest.mark.no_cover]

DOCS = ROOT / "docs"
ROLES = (DOCS / "roles.md").read_text(encoding="utf-8")
CLIENT = (DOCS / "client.md").read_text(encoding="utf-8")


def test_api_page_has_every_public_name() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE)) == sorted(simple_fastcgi.__all__)


def test_api_page_tells_where_the_other_names_are() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    others = re.findall(r"^\.\. auto\w+:: ([\w.]+)\.(\w+)$", page, re.MULTILINE)
    assert len(others) > 10
    for module, name in others:
        assert hasattr(importlib.import_module(module), name)
        assert name not in simple_fastcgi.__all__
    # The example that the page gives.
    assert ("simple_fastcgi.errors", "ConfigurationError") in others
    assert "`from simple_fastcgi.errors import ConfigurationError`" in page


def example(name: str, page: str = ROLES) -> str:
    (found,) = [block for block in blocks_of(page, "python") if block.startswith(f"# {name}\n")]
    return found


def printed(source: str, folder: Path) -> str:
    """What a program prints, which ends by itself."""
    # pytest, in one of them, needs none of the plugins that we have.
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-c", source]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_client_of_php(php: PhpFpm, tmp_path: Path) -> None:
    php.add("contact.php", 'echo $_POST["name"], " ", $_FILES["photo"]["size"];')
    php.add("who.php", 'error_log("seen"); echo $_SERVER["REMOTE_USER"], $_SERVER["APP_ENV"];')
    for name, expected in (("php.py", "200 Ada 3\n"), ("extensions.py", "seen")):
        source = example(name, CLIENT).replace("unix:/run/php/php-fpm.sock", php.address)
        assert expected in printed(source.replace("/var/www", str(php.document_root)), tmp_path)


def test_a_client_of_an_application(tmp_path: Path) -> None:
    def echo(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read()]

    with AppServer(echo) as server:
        source = example("app_client.py", CLIENT).replace("unix:/run/hello/app.sock", server.address)
        assert sum(map(int, printed(source, tmp_path).split())) == sum(len(b"piece %d\n" % n) for n in range(1000))
        source = example("async_client.py", CLIENT).replace("unix:/run/hello/app.sock", server.address)
        assert printed(source, tmp_path) == "['0', '1', '2']\n"


def test_an_error_of_a_client(tmp_path: Path) -> None:
    assert printed(example("errors.py", CLIENT), tmp_path).strip() in " ".join(CLIENT.split())


def test_a_test_of_an_application(tmp_path: Path, unmeasured: None) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "hello.py").write_text(example("hello.py", readme))
    for name in ("conftest.py", "test_hello.py"):
        (tmp_path / name).write_text(example(name, CLIENT))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # else one in a folder above might count
    assert printed(example("own_client.py", CLIENT), tmp_path) == "Hello from WSGI\n\n"
    command = f"import pytest, sys; sys.exit(pytest.main(['-q', {str(tmp_path)!r}]))"
    assert "1 passed" in printed(command, tmp_path)


def test_the_authorizer_as_it_stands(tmp_path: Path) -> None:
    with spawned(example("guard.py"), tmp_path) as web_server:
        web_server.begin(params_for("/", HTTP_AUTHORIZATION="Bearer sesame"), role=FCGI_AUTHORIZER)
        assert web_server.response().stdout == b"Status: 200 OK\r\nVariable-APP_USER: ali\r\n\r\n"
        web_server.begin(params_for("/"), role=FCGI_AUTHORIZER)
        denied = web_server.response()
        assert (denied.status, denied.head["www-authenticate"], denied.body) == (401, "Bearer", b"Who are you?\n")
        assert web_server.request(params_for("/")).protocol_status == FCGI_UNKNOWN_ROLE


def test_a_test_of_an_authorizer(tmp_path: Path, unmeasured: None) -> None:
    for name in ("guard.py", "test_guard.py"):
        (tmp_path / name).write_text(example(name))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # else one in a folder above might count
    command = f"import pytest, sys; sys.exit(pytest.main(['-q', {str(tmp_path)!r}]))"
    assert "1 passed" in printed(command, tmp_path)


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
