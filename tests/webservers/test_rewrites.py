"""What is asked for is not always what the browser asked for: requests of the web server's own, and rewrites."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.gateways import AsgiHandler, WsgiHandler
from tests.gateways.support import async_server, sync_server

from .apache import HTACCESS, SHARED_HOST, Apache, host
from .children import ROOT
from .fronts import free_address
from .nginx import CONFIGURATION, Nginx
from .sites import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# The application decides who may see what nginx has, tells what was not found, and answers all other paths, as the
# front of a single-page application does.
SITE = """
    server {{
        listen 127.0.0.1:8000;
        location = /auth {{ internal; include fastcgi_params; fastcgi_pass unix:{path}; }}
        location /private/ {{ auth_request /auth; root {folder}; }}
        location /static/ {{ root {folder}; error_page 404 /404.html; }}
        location /old/ {{ rewrite ^ /new last; }}
        location /articles/ {{ rewrite ^(.*)\\.html$ $1 last; include fastcgi_params; fastcgi_pass unix:{path}; }}
        location /bare/ {{ rewrite ^(.*)$ $1? break; include fastcgi_params; fastcgi_pass unix:{path}; }}
        location / {{ include fastcgi_params; fastcgi_pass unix:{path}; }}
        location /app {{
            fastcgi_split_path_info ^(/app)(.*)$;
            include fastcgi_params;
            fastcgi_param PATH_INFO $fastcgi_path_info;
            fastcgi_pass unix:{path};
        }}
        location /guarded/ {{ auth_request /app/auth; root {folder}; }}
    }}
"""


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    refused = environ["PATH_INFO"] == "/auth"
    start_response("401 Unauthorized" if refused else "200 OK", [("Content-Type", "application/json")])
    return [json.dumps([environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"]]).encode()]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    root = scope.get("root_path", "")
    path = scope["path"].removeprefix(root)
    fields = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 401 if path == "/auth" else 200, "headers": fields})
    told = json.dumps([root, path, scope["query_string"].decode()]).encode()
    await send({"type": "http.response.body", "body": told})


@contextmanager
def behind_nginx(gateway: str, root_path: str | None, program: Callable[[str], str], folder: Path) -> Iterator[str]:
    for name in ("private", "static", "guarded"):
        (folder / name).mkdir()
        (folder / name / "there").write_text("there")
    server = (
        sync_server(WsgiHandler.for_app(wsgi_app, root_path=root_path))
        if gateway == "wsgi"
        else async_server(AsgiHandler.for_app(asgi_app, root_path=root_path, lifespan="off"), asyncio.new_event_loop)
    )
    with server as path:
        configuration = CONFIGURATION.format(sites=SITE.format(path=path, folder=folder))
        with Nginx(program("nginx"), configuration, folder) as nginx:
            yield f"http://127.0.0.1:{nginx.ports[0]}"


@pytest.mark.parametrize("gateway", ["wsgi", "asgi"])
def test_nginx_asks_and_goes_on(gateway: str, program: Callable[[str], str], tmp_path: Path) -> None:
    with behind_nginx(gateway, None, program, tmp_path) as url, client(url) as browser:
        # Else whoever asks for a private file would be let in by the answer to its own path.
        assert browser.get("/private/there").status_code == 401
        assert browser.get("/guarded/there").status_code == 401
        assert browser.get("/static/there").text == "there"
        missing = browser.get("/static/none")
        assert (missing.status_code, missing.json()) == (404, ["", "/404.html", ""])
        assert browser.get("/old/").json() == ["", "/new", ""]
        assert browser.get("/articles/5.html").json() == ["", "/articles/5", ""]
        assert browser.get("/app/x?y").json() == ["/app", "/x", "y"]
        assert browser.get("/bare/x?y").json() == ["", "/bare/x", ""]


@pytest.mark.parametrize("gateway", ["wsgi", "asgi"])
def test_so_it_is_below_a_mount_point_that_was_told(
    gateway: str, program: Callable[[str], str], tmp_path: Path
) -> None:
    with behind_nginx(gateway, "/app", program, tmp_path) as url, client(url) as browser:
        assert browser.get("/guarded/there").status_code == 401
        assert browser.get("/app/x").json() == ["/app", "/x", ""]


LED = """\
RewriteEngine On
RewriteCond %{REQUEST_URI} !^/shop/
RewriteRule ^(.*)$ shop/$1 [L]
"""
RULES = """\
AddHandler fcgid-script .fcgi
RewriteEngine On
RewriteRule ^api/(.*)$ index.fcgi/v2/$1 [L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteRule ^ index.fcgi [L]
"""
SCRIPT = """\
#!{python}
import json, sys
sys.path.insert(0, {root!r})
from simple_fastcgi import serve

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([environ["SCRIPT_NAME"], environ["PATH_INFO"], environ.get("REDIRECT_URL")]).encode()]

serve(app, root_path={told!r})
"""


@pytest.mark.parametrize("told", [None, "/"])
def test_a_site_that_is_led_into_a_folder(told: str | None, program: Callable[[str], str]) -> None:
    """Shared hosts are so set up by their users, in two files .htaccess."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        script = folder / "site" / "shop" / "index.fcgi"
        script.parent.mkdir(parents=True)
        script.write_text(SCRIPT.format(python=sys.executable, root=os.fspath(ROOT), told=told))
        script.chmod(0o755)
        (folder / "site" / ".htaccess").write_text(LED)
        (folder / "site" / "shop" / ".htaccess").write_text(RULES)
        address = "{}:{}".format(*free_address())
        site = f"Listen {address}\n" + host(address, SHARED_HOST.format(folder=folder / "site"))
        with (
            Apache(program("apache2"), {HTACCESS: (f"http://{address}", site)}, folder),
            client(f"http://{address}") as browser,
        ):
            assert browser.get("/x/y").json() == ["", "/x/y", None]
            assert browser.get("/x%20y?z").json() == ["", "/x y", None]
            assert browser.get("/").json()[:2] == ["", "/"]
            inside = ["/shop", "/x"] if told is None else ["", "/shop/x"]
            assert browser.get("/shop/x").json()[:2] == inside
            # What a rule has made of the path counts.
            made = ["/shop", "/v2/x"] if told is None else ["", "/shop/v2/x"]
            assert browser.get("/shop/api/x").json()[:2] == made
