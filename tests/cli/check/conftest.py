"""The probe, behind an nginx with many set-ups, good and broken; and the command itself."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli import main
from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan
from tests.cli.check.support import Said
from tests.webservers.children import App
from tests.webservers.nginx import CONFIGURATION, Nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.check.support import Check

STOCK = "include /etc/nginx/fastcgi_params; fastcgi_param HTTP_HOST $http_host;"
# As people break it. Ports: 8000 and 8001 are as `config` prints them, 8002 breaks many things at once.
BROKEN = """
    server {{
        listen 127.0.0.1:8002;
        location / {{
            include /etc/nginx/fastcgi_params;
            fastcgi_param HTTP_AUTHORIZATION "";
            fastcgi_param HTTPS on;
            fastcgi_ignore_headers X-Accel-Buffering;
            fastcgi_pass {app};
        }}
    }}
    server {{
        listen 127.0.0.1:8003;
        client_max_body_size 1g;
        fastcgi_pass_request_headers on;
        location /stock/ {{ {stock} fastcgi_pass {app}; }}
        location /split/ {{
            fastcgi_split_path_info ^(/wrong)(/.*)$;
            {stock} fastcgi_param PATH_INFO $fastcgi_path_info;
            fastcgi_pass {app};
        }}
        location /lost/ {{
            rewrite ^/lost(/.*)$ $1? break;
            fastcgi_param SCRIPT_NAME $uri;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param HTTP_HOST app.internal;
            fastcgi_pass {app};
        }}
        location /nohead/ {{
            if ($request_method = HEAD) {{ return 405; }}
            if ($http_transfer_encoding) {{ return 411; }}
            if ($request_uri ~ //|%2F) {{ return 400; }}
            {stock} fastcgi_pass {app};
        }}
        location /strict/ {{
            client_max_body_size 600k;
            if ($request_uri ~ b=x) {{ return 403; }}
            if ($request_uri ~ %2F) {{ return 404; }}
            if ($http_authorization) {{ return 401; }}
            {stock} fastcgi_pass {app};
        }}
        location /dead/ {{ {stock} fastcgi_pass unix:{folder}/none.sock; }}
        location /http/ {{ {stock} fastcgi_pass 127.0.0.1:8002; }}
        location /moved/ {{ return 301 https://elsewhere.example/; }}
        location /late/ {{ return 504; }}
        location /broken/ {{ return 500; }}
        location /closed/ {{ deny all; }}
        location /secret/ {{ if ($http_authorization = "") {{ return 401; }} {stock} fastcgi_pass {app}; }}
        location /page/ {{ default_type text/html; return 200 "<html><title> My &amp; Shop </title>"; }}
        location /text/ {{ default_type text/plain; return 200 "hello"; }}
    }}
    upstream asks {{ server {app}; }}
    server {{
        listen 127.0.0.1:8004;
        location / {{ {stock} fastcgi_keep_conn on; fastcgi_pass asks; }}
    }}
    server {{
        listen 127.0.0.1:8005 ssl;
        ssl_certificate cert.pem;
        ssl_certificate_key key.pem;
        location / {{ {stock} fastcgi_pass {app}; }}
        location /plain/ {{ {stock} fastcgi_param HTTPS ""; fastcgi_param REQUEST_SCHEME http; fastcgi_pass {app}; }}
    }}
"""


@dataclass
class Setup:
    """The probe on a socket file, and nginx in front of it."""

    folder: Path
    probe: App
    nginx: Nginx

    def url(self, path: str = "/", port: int = 8003) -> str:
        """`path` at what the configuration calls `port`."""
        scheme = "https" if port == 8005 else "http"
        return f"{scheme}://127.0.0.1:{self.nginx.ports[port - 8000]}{path}"


@pytest.fixture(scope="session")
def setup(program: Callable[[str], str]) -> Iterator[Setup]:
    """One for all tests of a process."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        make_certificate(program("openssl"), folder)
        probe = App.serve("simple_fastcgi.check:app", f"unix:{folder}/app.sock", folder / "app.log")
        stack.enter_context(probe)
        sites = [
            make(
                "nginx", Plan(app="shop:app", bind=f"unix:{folder}/app.sock", listen=listen, root_path=root, name=name)
            )
            for name, listen, root in (("root", "127.0.0.1:8000", ""), ("app", "127.0.0.1:8001", "/app"))
        ]
        servers = [file.text for site in sites for file in site.files]
        servers.append(BROKEN.format(app=probe.upstream, stock=STOCK, folder=folder))
        text = CONFIGURATION.format(sites="\n".join(servers)).replace(
            "include fastcgi_params", "include /etc/nginx/fastcgi_params"
        )
        nginx = stack.enter_context(Nginx(program("nginx"), text, folder))
        yield Setup(folder, probe, nginx)


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """``simple-fastcgi check --json``, in this process."""

    def run(*words: str) -> Said:
        status = main(["check", "--json", *words])
        return Said(status, json.loads(capsys.readouterr().out))

    return run


def make_certificate(openssl: str, folder: Path) -> None:
    """One that nobody trusts."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2"
    subprocess.run([openssl, *words.split(), "-subj", "/CN=localhost"], cwd=folder, check=True, capture_output=True)
