"""Routing, and the URLs that applications make: each way to set up a web server gives ones that a browser can use."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .scenarios import scenario
from .sites import FRONTS, each

if TYPE_CHECKING:
    import httpx

    from .sites import Site

pytestmark = each(FRONTS)

FAILING = ("error/before", "error/during")
LASTING = ("stream", "slow", "52428800")
STATUSES = {"nowhere": 404, "418": 418, "204": 204, "background": 202, "redirect": 302}


@scenario("routing")
def test_every_link_of_the_first_page_leads_somewhere(site: Site, client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    links = {unescape(link) for link in re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)}
    assert len(links) > 15
    for link in links:
        assert link.startswith(site.front.mount + "/")
        if not any(word in link for word in FAILING + LASTING):
            expected = next((code for word, code in STATUSES.items() if word in link), 200)
            assert (link, client.get(site.origin + link).status_code) == (link, expected)


@scenario("generated URLs")
def test_every_url_that_is_made_answers(site: Site, client: httpx.Client) -> None:
    facts = client.get("/url").json()
    mount = site.front.mount
    assert facts["relative"] == f"{mount}/url"
    assert facts["static"] == f"{mount}/static/style.css"
    assert facts["relative_with_name"].startswith(f"{mount}/unicode/gr%C3%BCn/wei%C3%9F")
    for name in ("relative", "relative_with_name", "static"):
        assert client.get(site.origin + facts[name]).status_code == 200
    for name in ("external", "external_with_name"):
        # Without the port in HTTP_HOST no application can tell it: then the default one is meant.
        origin = f"http://{facts['host']}"
        assert facts[name].startswith(f"{origin}{mount}/")
        assert client.get(site.origin + facts[name].removeprefix(origin)).status_code == 200
    assert client.get(facts["relative_with_name"].removeprefix(mount)).json()["name"] == "grün/weiß"


@scenario("mount point")
def test_the_mount_point_is_told(site: Site, client: httpx.Client) -> None:
    for path in ("/url", "/url?a=%C3%A4"):
        facts = client.get(path).json()
        if site.framework == "flask":
            assert (facts["script_root"], facts["path"]) == (site.front.mount, "/url")
        else:
            assert (facts["root_path"], facts["path"]) == (site.front.mount, f"{site.front.mount}/url")


@scenario("host")
def test_the_host_is_told_as_configured(site: Site, client: httpx.Client) -> None:
    port = urlsplit(site.origin).port
    answer = client.get("/url", headers={"Host": f"shop.example:{port}"}).json()
    whole, short = f"shop.example:{port}", "shop.example"
    assert answer["host"] in {True: {whole}, False: {short}, None: {whole, short}}[site.front.tells_port]
    assert answer["external"] == f"http://{answer['host']}{site.front.mount}/url"


@scenario("UTF-8 paths")
def test_paths_in_unicode(site: Site, client: httpx.Client) -> None:
    for path, name in (
        ("gr%C3%BCn", "grün"),
        ("%E6%97%A5%E6%9C%AC/a%20b", "日本/a b"),
        ("a%2520b", "a%20b"),
        ("a+b%3Fc%23d;e=f&g", "a+b?c#d;e=f&g"),
        ("%F0%9F%8D%B5", "🍵"),
    ):
        answer = client.get(f"/unicode/{path}?q=%C3%A4&q=%26&r=+")
        assert answer.json()["name"] == name
        assert answer.json()["query"] == {"q": ["ä", "&"], "r": [" "]}
        made = answer.json()["url"]
        assert made.startswith(f"{site.front.mount}/unicode/")
        assert client.get(site.origin + made).json()["name"] == name


@scenario("redirects")
def test_redirects_and_cookies_stay_below_the_mount_point(site: Site, client: httpx.Client) -> None:
    assert client.get("/redirect").headers["Location"] == f"{site.front.mount}/"
    assert client.post("/form", data={"name": "x"}).headers["Location"] == f"{site.front.mount}/form"
    fields = client.get("/cookies").headers.get_list("Set-Cookie")
    assert len(fields) == 3
    assert all(f"path={site.front.mount or '/'};" in f"{field.lower()};" for field in fields)


@scenario("mount point")
def test_the_mount_point_without_its_slash(site: Site, client: httpx.Client) -> None:
    answer = client.get(site.origin + site.front.mount, follow_redirects=True)
    assert (answer.status_code, "It works." in answer.text) == (200, True)
