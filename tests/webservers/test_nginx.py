"""What ``simple-fastcgi config nginx`` prints beyond what every web server is asked for."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.support.webserver import TIMEOUT

from .nginx import MOUNTED, STATIC, TRANSPORTS
from .sites import each

if TYPE_CHECKING:
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
