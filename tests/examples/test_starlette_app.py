"""The Starlette example over FastCGI, without a web server: what it answers."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simple_fastcgi.testing import FcgiTestClient
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

FILE = Path(__file__).parents[2] / "examples" / "starlette_app" / "app.py"
PAGES = ("/", "/form", "/upload", "/live")
FACTS = ("/url", "/environ", "/cookies", "/state", "/static/style.css", "/static/live.js", "/unicode/a")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """Load the example under a name of its own, for every example is called app."""
    spec = importlib.util.spec_from_file_location("starlette_example", FILE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def client(module: ModuleType) -> Iterator[FcgiTestClient]:
    """Give a browser that has not been here before, in front of a process that has just started."""
    with FcgiTestClient(module.app, raise_app_exceptions=False, loop="asyncio") as client:
        yield client


@pytest.mark.parametrize("path", PAGES + FACTS)
def test_pages_and_facts_answer(client: FcgiTestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_first_page_links_to_nothing_that_is_missing(client: FcgiTestClient) -> None:
    links = {part.partition('"')[0].replace("&amp;", "&") for part in client.get("/").text.split('href="')[1:]}
    assert len(links) > 15
    own = links - {"data:,", "/nowhere", "/error/before", "/error/during", "/stream", "/stream?count=100&interval=0.05"}
    for link in own - {"/slow?seconds=2", "/download/52428800"}:
        assert client.get(link).status_code < 400 or link == "/status/418"


def test_pages_ask_for_nothing_from_other_hosts(client: FcgiTestClient) -> None:
    for path in (*PAGES, "/nowhere"):
        text = client.get(path).text.replace("http://testserver", "")
        assert "http://" not in text
        assert "https://" not in text
        assert 'src="//' not in text


def test_a_form_is_answered_with_a_redirect_and_then_a_message(client: FcgiTestClient) -> None:
    answer = client.post("/form", data={"name": "<b>Grün</b>", "message": "hello"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/form")
    assert "Thank you, &lt;b&gt;Grün&lt;/b&gt;. Your message of 5 characters has arrived." in client.get("/form").text
    assert "Thank you" not in client.get("/form").text


def test_a_form_without_a_name_is_shown_again(client: FcgiTestClient) -> None:
    answer = client.post("/form", data={"name": " ", "message": "kept"})
    assert answer.status_code == 400
    assert ">kept</textarea>" in answer.text


def test_an_uploaded_file_is_measured(client: FcgiTestClient) -> None:
    content = bytes(range(256)) * 8192
    answer = client.post("/upload", files={"file": ("<x>.bin", content)}, headers={"Accept": "application/json"})
    assert answer.json() == {"name": "<x>.bin", "size": len(content), "sha256": sha256(content)}
    page = client.post("/upload", files={"file": ("<x>.bin", content)})
    assert "2,097,152 bytes" in page.text
    assert "&lt;x&gt;.bin" in page.text
    assert client.post("/upload", data={"note": "no file"}).status_code == 400


@pytest.mark.parametrize("method", ("PUT", "POST"))
def test_a_raw_upload_is_measured(client: FcgiTestClient, method: str) -> None:
    content = b"raw" * 100_000
    assert client.request(method, "/upload/raw", content=content).json() == {"size": 300_000, "sha256": sha256(content)}


@pytest.mark.parametrize("size", (0, 1, 65_536, 65_537, 1_000_000))
def test_a_download_has_its_length_and_checksum(client: FcgiTestClient, size: int) -> None:
    answer = client.get(f"/download/{size}")
    assert int(answer.headers["content-length"]) == len(answer.content) == size
    assert answer.headers["x-checksum-sha256"] == sha256(answer.content)


def test_a_download_is_revalidated_and_has_a_bound(client: FcgiTestClient) -> None:
    etag = client.get("/download/1000").headers["etag"]
    same = client.get("/download/1000", headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    assert client.get("/download/99999999999").status_code == 400


def test_a_stream_has_its_lines(client: FcgiTestClient) -> None:
    answer = client.get("/stream?count=3&interval=0")
    assert answer.text.splitlines() == ["line 1 of 3", "line 2 of 3", "line 3 of 3"]
    assert answer.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("count", ("-1", "0", "nan", "x"))
def test_odd_numbers_are_put_right(client: FcgiTestClient, count: str) -> None:
    answer = client.get(f"/stream?interval=0&count={count}")
    assert len(answer.text.splitlines()) == (10 if count == "x" else 0)


def test_a_slow_answer_tells_how_long_it_took(client: FcgiTestClient) -> None:
    assert client.get("/slow?seconds=0.01").json() == {"slept": 0.01}


def test_urls_are_made_below_the_mount_point(module: ModuleType) -> None:
    with FcgiTestClient(module.app, base_url="https://example.org:8443", root_path="/app", loop="asyncio") as client:
        facts = client.get("/app/url?a=%C3%A4").json()
    assert (facts["root_path"], facts["path"]) == ("/app", "/app/url")
    assert (facts["scheme"], facts["host"]) == ("https", "example.org:8443")
    assert (facts["relative"], facts["external"]) == ("/app/url", "https://example.org:8443/app/url")
    assert facts["relative_with_name"] == "/app/unicode/gr%C3%BCn/wei%C3%9F"
    assert facts["static"] == "/app/static/style.css"


def test_unicode_in_a_path_comes_back(client: FcgiTestClient) -> None:
    answer = client.get("/unicode/gr%C3%BCn/a%20b?q=%C3%A4&q=2")
    assert answer.json() == {"name": "grün/a b", "query": {"q": ["ä", "2"]}, "url": "/unicode/gr%C3%BCn/a%20b"}


@pytest.mark.parametrize("code", (200, 204, 304, 404, 418, 503))
def test_a_status_is_the_one_asked_for(client: FcgiTestClient, code: int) -> None:
    answer = client.get(f"/status/{code}")
    assert answer.status_code == code
    assert answer.text == ("" if code in {204, 304} else f"status {code}\n")


@pytest.mark.parametrize("path", ("/status/199", "/status/600", "/redirect?code=200"))
def test_what_is_not_to_be_had_is_refused(client: FcgiTestClient, path: str) -> None:
    assert client.get(path).status_code == 400


def test_cookies_are_set_each_by_itself(client: FcgiTestClient) -> None:
    answer = client.get("/cookies")
    assert len(answer.headers.get_list("set-cookie")) == 3
    assert answer.json() == {}
    assert client.get("/cookies").json()["topping"] == "nuts, raisins; honey"


@pytest.mark.parametrize("code", (301, 302, 303, 307, 308))
def test_a_redirect_leads_to_the_first_page(client: FcgiTestClient, code: int) -> None:
    answer = client.get(f"/redirect?code={code}")
    assert (answer.status_code, answer.headers["location"]) == (code, "/")


def test_an_error_before_the_answer_shows_no_traceback(client: FcgiTestClient) -> None:
    answer = client.get("/error/before")
    assert answer.status_code == 500
    assert "failed" not in answer.text


def test_an_error_in_mid_answer_reaches_the_server(module: ModuleType) -> None:
    with FcgiTestClient(module.app, loop="asyncio") as client, pytest.raises(RuntimeError, match="in the middle"):
        client.get("/error/during")


def test_the_scope_is_shown_as_json(client: FcgiTestClient) -> None:
    facts = client.get("/environ?a=1").json()
    assert (facts["type"], facts["path"], facts["query_string"]) == ("http", "/environ", "a=1")
    assert ["host", "testserver"] in facts["headers"]


def test_a_missing_page_is_told_in_style(client: FcgiTestClient) -> None:
    answer = client.get("/<nowhere>")
    assert answer.status_code == 404
    assert "/&lt;nowhere&gt;" in answer.text


def test_the_state_lives_as_long_as_the_process(client: FcgiTestClient) -> None:
    first = client.get("/state").json()
    second = client.get("/state").json()
    assert second["requests"] == first["requests"] + 1
    assert second["started_at"] == first["started_at"]


def test_a_background_task_leaves_its_marker(client: FcgiTestClient) -> None:
    answer = client.get("/background?marker=it+ran&seconds=0")
    assert answer.json() == {"accepted": "it ran", "see": "/state"}
    assert client.get("/state").json()["background"] == ["it ran"]


def test_events_are_numbered_and_go_on_where_they_broke_off(client: FcgiTestClient) -> None:
    answer = client.get("/events?count=2&interval=0", headers={"Last-Event-ID": "41"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    numbers = [line for line in answer.text.splitlines() if line.startswith("id: ")]
    assert numbers == ["id: 42", "id: 43"]
    facts = client.get("/state").json()
    assert (facts["sse_active"], facts["sse_left"]) == (0, 0)


@pytest.mark.parametrize("spec_version", ("2.0", "2.5"))
def test_a_listener_who_leaves_is_noticed(module: ModuleType, spec_version: str) -> None:
    """Up to version 2.3 Starlette itself waits for the disconnect; after that the server tells in send."""
    state = asyncio.run(leave_events(module, spec_version))
    assert (state["sse_active"], state["sse_left"]) == (0, 1)


async def leave_events(module: ModuleType, spec_version: str) -> dict[str, int]:
    """Listen to events until the first has come, then go."""
    begun, gone = asyncio.Event(), asyncio.Event()
    requests = [{"type": "http.request", "body": b"", "more_body": False}]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "method": "GET",
        "path": "/events",
        "query_string": b"interval=10",
        "headers": [],
    }

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if gone.is_set():
            raise OSError("the client has gone")
        if message.get("body", b"").startswith(b"id: 1\n"):
            assert json.loads(message["body"].partition(b"data: ")[2])["sse_active"] == 1
            begun.set()

    async with module.app.router.lifespan_context(module.app) as state:
        scope["state"] = dict(state)
        answer = asyncio.create_task(module.app(scope, receive, send))
        await asyncio.wait_for(begun.wait(), TIMEOUT)
        gone.set()
        await asyncio.wait({answer}, timeout=TIMEOUT)
        assert answer.done()
        answer.exception()  # Starlette may tell the server that the client has gone: nothing that is wrong
        return {name: getattr(state["demo"], name) for name in ("sse_active", "sse_left")}
