"""What ``simple-fastcgi config nginx`` prints beyond what every web server is asked for."""

from __future__ import annotations

import re
import subprocess
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from simple_fastcgi.cli.config.command import make
from simple_fastcgi.cli.config.plan import Plan
from tests.support.webserver import TIMEOUT

from .nginx import CONFIGURATION, MOUNTED, STATIC, TRANSPORTS, Nginx
from .sites import client as browser
from .sites import each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from .sites import Site


@each([MOUNTED, TRANSPORTS[1]], "flask")
def test_static_files_are_served_without_the_application(site: Site, client: httpx.Client) -> None:
    """Below the mount point, too."""
    mark = site.app.mark()
    answer = client.get("/of-nginx/style.css")
    assert (answer.status_code, answer.content) == (200, (STATIC / "style.css").read_bytes())
    assert client.get("/of-nginx/none.css").status_code == 404
    assert client.get("/of-nginx/../../app.py").status_code == 404
    assert "of-nginx" not in site.app.log_since(mark)


@each([TRANSPORTS[1]], "flask")
def test_the_host_of_an_absolute_target_wins(site: Site) -> None:
    """The field Host may be a lie there; only its port is taken from it."""
    address = urlsplit(site.origin)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT)
    connection.request("GET", "http://shop.example/url", headers={"Host": "evil.example:81"})
    answer = connection.getresponse().read()
    connection.close()
    assert b"http://shop.example:81/url" in answer
    assert b"evil" not in answer


@each([TRANSPORTS[1]], "flask")
def test_many_cookies_fit(client: httpx.Client) -> None:
    """The buffer for an answer's head is larger than nginx's own, with which this would be a 502."""
    answer = client.get("/probe/wide?fields=20")
    assert (answer.status_code, len(answer.headers.get_list("X-Wide"))) == (200, 20)


@each([MOUNTED], "flask")
def test_the_mount_point_gets_its_slash_at_the_port_of_nginx(site: Site, client: httpx.Client) -> None:
    answer = client.get(site.origin + "/app?x=%20")
    assert (answer.status_code, answer.headers["Location"]) == (301, f"{site.origin}/app/?x=%20")
    assert client.get(site.origin + "/application").status_code == 404


@each([TRANSPORTS[1]], "flask")
def test_the_lines_for_a_certificate(site: Site, program: Callable[[str], str], tmp_path: Path) -> None:
    """They are comments; the application is told of TLS when they are none."""
    name = ("-subj", "/CN=localhost", "-nodes", "-keyout", "localhost.key", "-out", "localhost.pem")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    command = (program("openssl"), "req", "-x509", *curve, *name)
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    plan = Plan(bind=site.process.upstream, listen="127.0.0.1:8000", server_name="localhost")
    text = re.sub(r"# (listen|ssl_certificate)", r"\1", make("nginx", plan).files[0].text)
    assert text.count("/etc/ssl/localhost.") == 2
    text = text.replace("/etc/ssl", str(tmp_path)).replace("listen 443", "listen 127.0.0.1:8001")
    with Nginx(program("nginx"), CONFIGURATION.format(sites=text), tmp_path / "nginx") as server:
        for scheme, port in zip(("http", "https"), server.ports, strict=True):
            with browser(f"{scheme}://localhost:{port}") as client:
                assert client.get("/url").json()["external"] == f"{scheme}://localhost:{port}/url"
