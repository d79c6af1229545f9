"""Every example in docs/proxy.md does what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from simple_fastcgi.limits import ClientLimits
from simple_fastcgi.testing import AppServer
from tests.support.asgi_server import serving_http
from tests.support.examples import ROOT, blocks_of
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.php import PhpFpm

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "proxy.md").read_text(encoding="utf-8")


def app_of(name: str, **replaced: str) -> Any:
    (source,) = [block for block in blocks_of(PAGE, "python") if block.startswith(f"# {name}\n")]
    for old, new in replaced.items():
        assert PATHS[old] in source
        source = source.replace(PATHS[old], new)
    names: dict[str, Any] = {}
    exec(compile(source, name, "exec"), names)
    return names["app"]


PATHS = {
    "php": "unix:/run/php/php-fpm.sock",
    "blog": "/srv/blog",
    "site": "/srv/site",
    "app": "unix:/run/hello/app.sock",
}


def test_mounted(php: PhpFpm) -> None:
    php.add("blog/post.php", "echo $_SERVER['SCRIPT_NAME'], $_SERVER['PATH_INFO'];")
    php.add("blog/index.php", "echo 'index';")
    app = app_of("mounted.py", php=php.address, blog=f"{php.document_root}/blog")
    with (
        serving_http(app) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, verify=False) as client,
    ):
        assert client.get("/").text == "Hello from Python\n"
        assert client.get("/blog/post.php/7").text == "/blog/post.php/7"
        assert client.get("/blog/").text == "index"


def test_a_site(php: PhpFpm, tmp_path: Path) -> None:
    php.add("site/page.php", "echo 'page';")
    php.add("site/index.php", "echo 'front ', $_SERVER['REQUEST_URI'];")
    root = php.document_root / "site"
    (root / "style.css").write_text("body {}")
    (root / "secret.inc").write_text("<?php secret")
    app = app_of("blog_site.py", php=php.address, site=str(root))
    with (
        serving_http(app) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, verify=False) as client,
    ):
        assert client.get("/style.css").text == "body {}"
        assert client.get("/page.php").text == "page"
        assert client.get("/some/thing?x").text == "front /some/thing?x"
        # No way leads to a source.
        for path in (
            "/secret.inc",
            "/page.php/x.css",
            "/page.php%2Fx.css",
            "/page.php%00.css",
            "/page.PHP",
            "/page.php.",
        ):
            assert "<?php" not in client.get(path).text


def test_before_our_own_server() -> None:
    def hello(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"Hello from WSGI\n"]

    with AppServer(hello) as server:
        app = app_of("front.py", app=server.address)
        with serving_http(app) as port:
            assert httpx.get(f"http://127.0.0.1:{port}/", timeout=TIMEOUT, verify=False).text == "Hello from WSGI\n"


def test_figures() -> None:
    assert "`max_spooled_bytes` (64 MiB)" in PAGE
    assert ClientLimits().max_spooled_bytes == 64 * 1024 * 1024
