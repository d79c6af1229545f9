"""The Flask example over FastCGI, without a web server: what it answers."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.testing import FcgiTestClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

FILE = Path(__file__).parents[2] / "examples" / "flask_app" / "app.py"
ROUTES_TO_SEE = ("/", "/form", "/upload", "/url", "/environ", "/cookies", "/static/style.css", "/unicode/a")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """Load the example under a name of its own, for every example is called app."""
    spec = importlib.util.spec_from_file_location("flask_example", FILE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def client(module: ModuleType) -> Iterator[FcgiTestClient]:
    """Give a browser that has not been here before."""
    with FcgiTestClient(module.app) as client:
        yield client


@pytest.fixture
def mounted(module: ModuleType) -> Iterator[FcgiTestClient]:
    """Give one for which the application is mounted below /app."""
    with FcgiTestClient(module.app, root_path="/app", base_url="https://example.org:8443/app") as client:
        yield client


@pytest.mark.parametrize("path", ROUTES_TO_SEE)
def test_pages_and_facts_answer(client: FcgiTestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_the_first_page_links_to_nothing_that_is_missing(module: ModuleType, client: FcgiTestClient) -> None:
    links = {part.partition('"')[0].replace("&amp;", "&") for part in client.get("/").text.split('href="')[1:]}
    assert len(links) > 15
    adapter = module.app.url_map.bind("localhost")
    for link in links - {"data:,", "/nowhere"}:
        assert adapter.match(link.partition("?")[0])


def test_pages_ask_for_nothing_from_other_hosts(client: FcgiTestClient) -> None:
    for path in ("/", "/form", "/upload", "/nowhere"):
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


def test_an_uploaded_file_is_measured_and_stored_nowhere(
    client: FcgiTestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file was made")

    content = bytes(range(256)) * 8192
    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", refuse)
    answer = client.post(
        "/upload",
        files={"file": ("grün.bin", content)},
        data={"note": "a field"},
        headers={"Accept": "application/json"},
    )
    assert answer.json() == {"name": "grün.bin", "size": len(content), "sha256": sha256(content)}


def test_an_upload_shows_its_result_and_asks_again_without_a_file(client: FcgiTestClient) -> None:
    answer = client.post("/upload", files={"file": ("<x>.bin", b"x" * 12345)})
    assert answer.status_code == 200
    assert "12,345 bytes" in answer.text
    assert "&lt;x&gt;.bin" in answer.text
    assert client.post("/upload", data={"note": "no file"}).status_code == 400


@pytest.mark.parametrize("method", ("PUT", "POST"))
def test_a_raw_upload_is_measured(client: FcgiTestClient, method: str) -> None:
    content = b"raw" * 100_000
    answer = client.request(method, "/upload/raw", content=content)
    assert answer.json() == {"size": len(content), "sha256": sha256(content)}


def test_a_raw_upload_of_unknown_length_is_measured(client: FcgiTestClient) -> None:
    content = b"raw" * 100_000
    answer = client.put("/upload/raw", content=iter([content[:100], content[100:]]))
    assert answer.json() == {"size": len(content), "sha256": sha256(content)}


@pytest.mark.parametrize("size", (0, 1, 65_536, 65_537, 1_000_000))
def test_a_download_has_its_length_and_checksum(client: FcgiTestClient, size: int) -> None:
    answer = client.get(f"/download/{size}")
    assert int(answer.headers["content-length"]) == len(answer.content) == size
    assert answer.headers["X-Checksum-SHA256"] == sha256(answer.content)
    head = client.head(f"/download/{size}")
    assert (head.content, head.headers["content-length"]) == (b"", str(size))


def test_a_download_is_resumed_and_revalidated(client: FcgiTestClient) -> None:
    whole = client.get("/download/200000")
    part = client.get("/download/200000", headers={"Range": "bytes=150000-"})
    assert (part.status_code, part.content) == (206, whole.content[150_000:])
    same = client.get("/download/200000", headers={"If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_a_download_has_a_bound(client: FcgiTestClient) -> None:
    assert client.get("/download/99999999999").status_code == 400


def test_a_stream_comes_line_by_line(client: FcgiTestClient) -> None:
    with client.stream("GET", "/stream?count=3&interval=0") as answer:
        assert list(answer.iter_raw()) == [b"line 1 of 3\n", b"line 2 of 3\n", b"line 3 of 3\n"]
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("count", ("-1", "0", "nan", "x"))
def test_odd_numbers_are_put_right(client: FcgiTestClient, count: str) -> None:
    answer = client.get(f"/stream?interval=0&count={count}")
    assert len(answer.content.splitlines()) == (10 if count == "x" else 0)


def test_a_slow_answer_tells_how_long_it_took(client: FcgiTestClient) -> None:
    assert client.get("/slow?seconds=0.01").json() == {"slept": 0.01}


def test_urls_are_made_below_the_mount_point(mounted: FcgiTestClient) -> None:
    facts = mounted.get("/url?a=%C3%A4").json()
    assert facts["script_root"] == "/app"
    assert (facts["path"], facts["full_path"]) == ("/url", "/url?a=%C3%A4")
    assert (facts["scheme"], facts["host"]) == ("https", "example.org:8443")
    assert (facts["relative"], facts["external"]) == ("/app/url", "https://example.org:8443/app/url")
    assert facts["relative_with_name"] == "/app/unicode/gr%C3%BCn/wei%C3%9F?q=%C3%A4%26b"
    assert facts["static"] == "/app/static/style.css"


def test_unicode_in_a_path_comes_back(client: FcgiTestClient) -> None:
    answer = client.get("/unicode/gr%C3%BCn/a%20b%2520?q=%C3%A4&q=2")
    url = "/unicode/gr%C3%BCn/a%20b%2520"
    assert answer.json() == {"name": "grün/a b%20", "query": {"q": ["ä", "2"]}, "url": url}


@pytest.mark.parametrize("code", (200, 204, 304, 404, 418, 503))
def test_a_status_is_the_one_asked_for(client: FcgiTestClient, code: int) -> None:
    answer = client.get(f"/status/{code}")
    assert answer.status_code == code
    assert answer.content == (b"" if code in {204, 304} else f"status {code}\n".encode())


@pytest.mark.parametrize("path", ("/status/199", "/status/600", "/redirect?code=200"))
def test_what_is_not_to_be_had_is_refused(client: FcgiTestClient, path: str) -> None:
    assert client.get(path).status_code == 400


def test_cookies_are_set_each_by_itself_and_come_back(client: FcgiTestClient) -> None:
    answer = client.get("/cookies")
    assert len(answer.headers.get_list("Set-Cookie")) == 3
    assert answer.json() == {}
    assert client.get("/cookies").json() == {
        "flavour": "chocolate",
        "topping": "nuts, raisins; honey",
        "secret": "recipe",
    }


@pytest.mark.parametrize("code", (301, 302, 303, 307, 308))
def test_a_redirect_leads_to_the_first_page(mounted: FcgiTestClient, code: int) -> None:
    answer = mounted.get(f"/redirect?code={code}")
    assert (answer.status_code, answer.headers["location"]) == (code, "/app/")


def test_an_error_before_the_answer_shows_no_traceback(client: FcgiTestClient) -> None:
    answer = client.get("/error/before")
    assert answer.status_code == 500
    assert "failed" not in answer.text


def test_an_error_in_mid_answer_comes_after_the_first_piece(client: FcgiTestClient) -> None:
    with client.stream("GET", "/error/during") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"This answer begins well.\n"
        with pytest.raises(RuntimeError, match="in the middle"):
            next(pieces)


def test_the_environ_is_all_text(client: FcgiTestClient) -> None:
    facts = client.get("/environ", headers={b"X-Odd": "ä".encode()}).json()
    assert facts["REQUEST_METHOD"] == "GET"
    assert all(isinstance(value, str) for value in facts.values())


def test_a_missing_page_is_told_in_style(mounted: FcgiTestClient) -> None:
    answer = mounted.get("/<nowhere>")
    assert answer.status_code == 404
    assert "/&lt;nowhere&gt;" in answer.text
    assert 'href="/app/"' in answer.text
