"""What HTTP knows, through web servers and FastCGI to the two examples and back."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from .scenarios import scenario
from .sites import FULL, each

if TYPE_CHECKING:
    import httpx

    from .sites import Site

pytestmark = each(FULL)


@scenario("routing")
def test_a_page(client: httpx.Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>It works.</h1>" in answer.text


@scenario("forms")
def test_a_form_and_its_message(client: httpx.Client) -> None:
    answer = client.post("/form", data={"name": "Zoë & Jürgen", "message": "=&+%" * 1000})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/form")
    thanks = "Thank you, Zoë &amp; Jürgen. Your message of 4000 characters has arrived."
    assert thanks in client.get(answer.headers["Location"]).text
    assert "Thank you" not in client.get("/form").text


@scenario("forms")
def test_a_form_that_is_refused(client: httpx.Client) -> None:
    answer = client.post("/form", data={"name": "", "message": "kept"})
    assert (answer.status_code, ">kept</textarea>" in answer.text) == (400, True)


@scenario("HEAD, 204, 304, 299")
def test_head_has_the_fields_and_no_body(client: httpx.Client) -> None:
    for path in ("/form", "/download/100000", "/stream?count=2&interval=0", "/nowhere"):
        head, get = client.head(path), client.get(path)
        assert head.content == b""
        assert head.status_code == get.status_code
        # A web server may tell the length of a body that it has seen whole, or leave it out where there is none.
        assert head.headers.get("Content-Length") in {None, get.headers.get("Content-Length")}
    assert client.head("/download/100000").headers["Content-Length"] == "100000"


@scenario("HEAD, 204, 304, 299")
@pytest.mark.parametrize("code", (200, 204, 299, 304, 404, 418, 503))
def test_statuses(client: httpx.Client, code: int) -> None:
    answer = client.get(f"/status/{code}")
    bodiless = code in {204, 304}
    assert (answer.status_code, answer.text) == (code, "" if bodiless else f"status {code}\n")
    # The connection to the client is whole behind it.
    assert client.get("/status/200").text == "status 200\n"


@scenario("HEAD, 204, 304, 299")
def test_not_modified(client: httpx.Client) -> None:
    whole = client.get("/download/5000")
    assert len(whole.content) == 5000
    same = client.get("/download/5000", headers={"If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", whole.headers["ETag"])


@scenario("redirects")
@pytest.mark.parametrize("code", (301, 302, 303, 307, 308))
def test_redirects(client: httpx.Client, code: int) -> None:
    answer = client.get(f"/redirect?code={code}")
    assert (answer.status_code, answer.headers["Location"]) == (code, "/")
    assert "It works." in client.get(f"/redirect?code={code}", follow_redirects=True).text


@scenario("several Set-Cookie")
def test_several_cookies(client: httpx.Client) -> None:
    assert len(client.get("/cookies").headers.get_list("Set-Cookie")) == 3
    assert client.get("/cookies").json() == {
        "flavour": "chocolate",
        "topping": "nuts, raisins; honey",
        "secret": "recipe",
    }


@scenario("parameters")
def test_what_the_application_is_told(site: Site, client: httpx.Client) -> None:
    front, address = site.front, urlsplit(site.origin)
    server = front.server_name or address.hostname
    answer = client.get("/environ?a=b%20c", headers=[("X-Multi", "alpha"), ("X-Multi", "beta"), ("X-Empty", "")])
    facts = answer.json()
    if site.framework == "flask":
        assert (facts["HTTP_X_MULTI"], facts.get("HTTP_X_EMPTY")) == ("alpha, beta", "" if front.passes_empty else None)
        assert (facts["QUERY_STRING"], facts["REMOTE_ADDR"]) == ("a=b%20c", "127.0.0.1")
        assert (facts["SERVER_NAME"], facts["SERVER_PORT"]) == (server, str(address.port))
        # Some web servers send them empty, and some that there are 0 bytes of a body.
        assert facts.get("CONTENT_LENGTH", "0") == "0"
        assert {"CONTENT_TYPE", "REMOTE_USER", "HTTP_AUTHORIZATION"}.isdisjoint(facts)
    else:
        fields = [(name, value) for name, value in facts["headers"] if name in {"x-empty", "x-multi"}]
        empty = [("x-empty", "")] if front.passes_empty else []
        values = ["alpha, beta"] if front.joins_fields else ["alpha", "beta"]
        assert sorted(fields) == [*empty, *(("x-multi", value) for value in values)]
        assert (facts["query_string"], facts["client"][0]) == ("a=b%20c", "127.0.0.1")
        assert facts["server"] == [server, address.port]
        names = [name for name, _ in facts["headers"]]
        assert dict(facts["headers"]).get("content-length", "0") == "0"
        assert {"content-type", "authorization"}.isdisjoint(names)
        assert len(set(names)) == len(names) - len(values) + 1


@scenario("Authorization, httpoxy")
def test_credentials_and_types_arrive_and_proxies_do_not(site: Site, client: httpx.Client) -> None:
    headers = {"Proxy": "http://evil.invalid:3128", "Authorization": "Basic dTpw", "Content-Type": "text/x-test"}
    answer = client.get("/environ", headers=headers)
    assert "evil" not in answer.text
    facts = answer.json()
    if site.framework == "flask":
        assert facts["HTTP_AUTHORIZATION"] == "Basic dTpw"
        assert facts.get("REMOTE_USER") == ("u" if site.front.tells_user else None)
        assert facts["CONTENT_TYPE"] == "text/x-test"
        assert "HTTP_CONTENT_TYPE" not in facts
    else:
        assert ["authorization", "Basic dTpw"] in facts["headers"]
        assert [value for name, value in facts["headers"] if name == "content-type"] == ["text/x-test"]


@scenario("long URLs and heads")
def test_large_heads(site: Site, client: httpx.Client) -> None:
    """More parameters than fit into one buffer of anybody's, and a name beyond ASCII in a header."""
    each = (site.front.longest_head - 1024) // 3
    headers = {b"X-Long": b"y" * each, b"X-Odd": "grün".encode(), b"Cookie": b"c=" + b"z" * each}
    answer = client.get(f"/unicode/long?q={'x' * each}", headers=headers)
    assert answer.json()["query"] == {"q": ["x" * each]}
