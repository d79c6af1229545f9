"""Bodies: large ones in little memory, ones of unknown length, and ones that come piece by piece."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from typing import TYPE_CHECKING

from .children import wait_until
from .nginx import TRANSPORTS
from .scenarios import scenario
from .sites import FRONTS, FULL, each

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from .sites import Site

MIB = 1 << 20
MEMORY = 16 * MIB
"""The growth of the application that is allowed meanwhile."""
BLOCK = 64 * 1024
NOISE = hashlib.shake_256(b"a test").digest(BLOCK - 8)
KEPT = [front for front in TRANSPORTS if front.kept]
EXAMPLES = [front for front in FRONTS if front.example]


class Upload:
    """A body that is made while it is sent; no two blocks are alike."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self.size, BLOCK):
            block = (start.to_bytes(8) + NOISE)[: self.size - start]
            self._sha256.update(block)
            yield block

    def facts(self) -> dict[str, int | str]:
        return {"size": self.size, "sha256": self._sha256.hexdigest()}


@scenario("uploads")
@each(FULL)
def test_a_large_upload(site: Site, client: httpx.Client) -> None:
    client.put("/upload/raw", content=b"x" * BLOCK)
    before = site.app.memory_peak(reset=True)
    upload = Upload(site.front.transfer)
    answer = client.put("/upload/raw", content=upload, headers={"Content-Length": str(site.front.transfer)})
    assert answer.json() == upload.facts()
    assert site.app.memory_peak() - before < MEMORY


@scenario("downloads")
@each(FULL)
def test_a_large_download(site: Site, client: httpx.Client) -> None:
    client.get("/download/100000")
    before = site.app.memory_peak(reset=True)
    sha256, size = hashlib.sha256(), 0
    with client.stream("GET", f"/download/{site.front.transfer}") as answer:
        for block in answer.iter_raw():
            sha256.update(block)
            size += len(block)
    assert (size, sha256.hexdigest()) == (site.front.transfer, answer.headers["X-Checksum-SHA256"])
    assert site.app.memory_peak() - before < MEMORY


@scenario("downloads")
@each(FULL)
def test_files(site: Site, client: httpx.Client, tmp_path: Path) -> None:
    """As the frameworks send them: Flask through `wsgi.file_wrapper`, Starlette by their path."""
    client.get("/download/1000")
    before = site.app.memory_peak(reset=True)
    sums = {}
    for size in (0, 1000, 10 * MIB + 1):
        (tmp_path / str(size)).write_bytes(b"".join(Upload(size)))
        with (tmp_path / str(size)).open("rb") as file:
            sums[size] = hashlib.file_digest(file, "sha256").hexdigest()
    for url in site.urls("/probe/file"):
        for size, sha256 in sums.items():
            params = {"path": str(tmp_path / str(size))}
            answer = client.get(url, params=params)
            assert (answer.headers["Content-Length"], len(answer.content)) == (str(size), size)
            assert hashlib.sha256(answer.content).hexdigest() == sha256
            head = client.head(url, params=params)
            # Apache leaves a length of 0 out.
            assert (head.headers.get("Content-Length", "0"), head.content) == (str(size), b"")
        part = client.get(url, params=params, headers={"Range": "bytes=100000-300000"})
        assert (part.status_code, part.content) == (206, answer.content[100000:300001])
    assert site.app.memory_peak() - before < MEMORY


@each(KEPT)
def test_a_large_file_in_a_form(site: Site, client: httpx.Client) -> None:
    before = site.app.memory_peak(reset=True)
    content = b"".join(Upload(site.front.transfer))
    file = ("grün.bin", content, "application/octet-stream")
    answer = client.post("/upload", files={"file": file}, headers={"Accept": "application/json"})
    assert answer.json() == {
        "name": "grün.bin",
        "size": site.front.transfer,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert site.app.memory_peak() - before < MEMORY


@scenario("chunked uploads")
@each(FULL)
def test_uploads_in_chunks(site: Site, client: httpx.Client) -> None:
    refused = site.front.chunked_status
    for url in site.urls("/upload/raw"):
        # An empty one, too, where no length must be known: HAProxy never tells the application that it has ended.
        for size in (0, 1, 10 * MIB + 1) if refused is None else (1, 100_000):
            upload = Upload(size)
            answer = client.put(url, content=upload)
            assert answer.request.headers["Transfer-Encoding"] == "chunked"
            if refused is None or size <= site.front.chunked_up_to:
                assert answer.json() == upload.facts()
            else:
                assert answer.status_code == refused


@scenario("chunked uploads")
@each(FULL)
def test_a_form_in_chunks(site: Site, client: httpx.Client) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    blocks = (b"name=Gr", b"%C3%BCn&mess", b"age=x")
    expected = 303 if site.front.chunked_up_to >= sum(map(len, blocks)) else site.front.chunked_status or 303
    for url in site.urls("/form"):
        answer = client.post(url, content=iter(blocks), headers=headers)
        assert answer.status_code == expected


@each(EXAMPLES)
def test_uploads_to_the_examples_as_they_are_configured(client: httpx.Client) -> None:
    upload = Upload(MIB)
    assert client.put("/upload/raw", content=upload).json() == upload.facts()


@scenario("streaming")
@each(FULL)
def test_a_stream_arrives_piece_by_piece(site: Site, client: httpx.Client, tmp_path: Path) -> None:
    """The application sends its second line only after the client has told that the first one has come."""
    for number, url in enumerate(site.urls("/probe/handshake")):
        seen = tmp_path / str(number)
        if not site.front.streams:
            seen.touch()
        with client.stream("GET", url, params={"seen": str(seen)}) as answer:
            pieces = answer.iter_raw()
            if site.front.streams:
                assert next(pieces) == b"first\n"
                seen.touch()
                assert b"".join(pieces) == b"second\n"
            else:
                assert b"".join(pieces) == b"first\nsecond\n"


@each([*KEPT[:1], *EXAMPLES])
def test_the_stream_of_the_example(client: httpx.Client) -> None:
    started = time.monotonic()
    with client.stream("GET", "/stream?count=3&interval=0.25") as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        assert first.startswith(b"line 1 of 3\n")
        # Whoever stood still for so long finds more.
        assert b"line 3" not in first or time.monotonic() - started > 0.5
        assert first + b"".join(pieces) == b"line 1 of 3\nline 2 of 3\nline 3 of 3\n"


@scenario("client that leaves")
@each([front for front in (*FULL, *EXAMPLES) if front.one_process and front.notices_leaving], "starlette")
def test_a_listener_to_events_who_leaves_is_noticed(site: Site, client: httpx.Client) -> None:
    before = client.get("/state").json()
    interval = 10 if site.front.notices_at_once else 0.2
    with client.stream("GET", f"/events?interval={interval}") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        pieces = answer.iter_text()
        text = ""
        while "data: " not in text:
            text += next(pieces)
        assert text.startswith("retry: 2000\n\nid: 1\ndata: {")
        assert client.get("/state").json()["sse_active"] == before["sse_active"] + 1

    def left() -> bool:
        now = client.get("/state").json()
        return bool((now["sse_active"], now["sse_left"]) == (before["sse_active"], before["sse_left"] + 1))

    # Before the next event, which it could not be sent; or else with one of the next.
    wait_until(left, 8)


@scenario("streaming")
@each(FULL)
def test_events_come_to_their_end(site: Site, client: httpx.Client) -> None:
    if site.framework == "flask":
        text = client.get("/stream?count=3&interval=0").text
        assert text == "line 1 of 3\nline 2 of 3\nline 3 of 3\n"
    else:
        text = client.get("/events?count=3&interval=0").text
        assert [line for line in text.split("\n") if line.startswith("id")] == ["id: 1", "id: 2", "id: 3"]


@scenario("client that leaves")
@each([front for front in FULL if front.notices_leaving])
def test_a_client_that_leaves_a_stream_is_noticed(site: Site, client: httpx.Client, tmp_path: Path) -> None:
    """The application's generator is closed, and nobody takes it for an error."""
    closed = tmp_path / "closed"
    log, errors = site.app.mark(), site.server.mark()
    with client.stream("GET", "/probe/endless", params={"closed": str(closed)}) as answer:
        pieces = answer.iter_raw()  # which would leave if nothing held it
        assert next(pieces).startswith(b"another line\n")
        assert not closed.exists()
    wait_until(closed.exists)
    said = site.app.log_since(log) if site.front.spawns else site.app.wait_for("DEBUG simple_fastcgi: .*\n", log).string
    assert "Traceback" not in said
    assert set(re.findall(r"(\w+) simple_fastcgi: ", said)) <= {"DEBUG", "INFO"}
    assert site.server.errors_since(errors) == ""


@scenario("HEAD, 204, 304, 299")
@each(FULL, "starlette")
def test_head_of_a_stream_without_an_end(site: Site, client: httpx.Client, tmp_path: Path) -> None:
    """Nobody waits for that end, neither the client nor, for long, the application."""
    closed = tmp_path / "closed"
    log = site.app.mark()
    assert client.head("/probe/endless", params={"closed": str(closed)}).status_code == 200
    wait_until(closed.exists)
    assert "Traceback" not in site.app.log_since(log)


@each(TRANSPORTS[:2], "starlette")
def test_work_behind_the_answer(client: httpx.Client) -> None:
    """The answer is complete before the background task has ended, and the task goes on behind it."""
    marker = uuid.uuid4().hex
    started = time.monotonic()
    assert client.get(f"/background?marker={marker}&seconds=0.5").status_code == 202
    assert marker not in client.get("/state").json()["background"] or time.monotonic() - started > 0.5
    wait_until(lambda: marker in client.get("/state").json()["background"])
