"""Real PHP, called through httpx."""

from __future__ import annotations

import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from simple_fastcgi.client import FcgiTransport
from simple_fastcgi.limits import ClientLimits
from tests.support.php import PING_PATH, STATUS_PATH, php_fpm
from tests.support.webserver import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.php import PhpFpm

# PHP encodes its answer's facts itself.
FACTS = """\
header("Content-Type: application/json");
echo json_encode(["server" => $_SERVER, "get" => $_GET, "post" => $_POST, "cookie" => $_COOKIE]);
"""
BODY = """\
$body = file_get_contents("php://input");
header("Content-Type: text/plain");
echo strlen($body), " ", hash("sha256", $body), " ", $_SERVER["CONTENT_LENGTH"] ?? "none";
"""
UPLOAD = """\
$file = $_FILES["file"];
header("Content-Type: application/json");
echo json_encode([$file["name"], $file["size"], hash_file("sha256", $file["tmp_name"]), $_POST["note"]]);
"""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def client(php: PhpFpm) -> Iterator[httpx.Client]:
    transport = FcgiTransport(php.address, document_root=str(php.document_root))
    with httpx.Client(transport=transport, base_url="http://php", timeout=TIMEOUT) as client:
        yield client


def test_ping_and_status(client: httpx.Client) -> None:
    assert client.get(PING_PATH).text == "pong"
    status = client.get(f"{STATUS_PATH}?json").json()
    assert (status["pool"], status["process manager"]) == ("www", "static")


def test_get(php: PhpFpm, client: httpx.Client) -> None:
    php.add("facts/index.php", FACTS)
    for url, script, info in (
        ("/facts/", "/facts/index.php", None),
        ("/facts/index.php", "/facts/index.php", None),
        ("/facts/index.php/b/%C3%A4", "/facts/index.php", "/b/ä"),
    ):
        facts = client.get(url, params={"a": ["1", "ä"]}, headers={"Cookie": "c=d"}).json()
        server = facts["server"]
        assert (server["SCRIPT_NAME"], server.get("PATH_INFO")) == (script, info)
        assert server["SCRIPT_FILENAME"] == f"{php.document_root}{script}"
        assert (server["REMOTE_ADDR"], server["HTTP_HOST"], server["SERVER_NAME"]) == ("127.0.0.1", "php", "php")
        assert (facts["get"]["a"], facts["cookie"]) == ("ä", {"c": "d"})


def test_one_script_answers_everything(php: PhpFpm) -> None:
    php.add("front.php", FACTS)
    transport = FcgiTransport(php.address, script=f"{php.document_root}/front.php", params={"APP_ENV": "test"})
    with httpx.Client(transport=transport, base_url="http://php", timeout=TIMEOUT) as client:
        server = client.get("/any/path").json()["server"]
        assert (server["SCRIPT_NAME"], server["REQUEST_URI"], server["APP_ENV"]) == (
            "/front.php",
            "/any/path",
            "test",
        )


def test_form(php: PhpFpm, client: httpx.Client) -> None:
    php.add("form.php", FACTS)
    assert client.post("/form.php", data={"a": "ä", "b": "2"}).json()["post"] == {"a": "ä", "b": "2"}


def test_upload(php: PhpFpm, client: httpx.Client) -> None:
    php.add("upload.php", UPLOAD)
    content = os.urandom(3_000_000)
    answer = client.post("/upload.php", files={"file": ("ä.bin", content)}, data={"note": "hello"})
    assert answer.json() == ["ä.bin", len(content), digest(content), "hello"]


def test_bodies_of_unknown_length_arrive(php: PhpFpm, client: httpx.Client) -> None:
    php.add("body.php", BODY)
    pieces = [os.urandom(70_000) for _ in range(30)]
    whole = b"".join(pieces)
    answer = client.post("/body.php", content=iter(pieces))
    assert answer.text == f"{len(whole)} {digest(whole)} {len(whole)}"
    assert client.put("/body.php", content=b"short").text == f"5 {digest(b'short')} 5"
    with tempfile.TemporaryFile() as file:
        file.write(whole)
        file.seek(0)
        assert client.post("/body.php", content=file).text == f"{len(whole)} {digest(whole)} {len(whole)}"


def test_stderr_is_told_and_logged(php: PhpFpm, client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    php.add("stderr.php", 'error_log("one problem"); echo "fine"; error_log("another");')
    answer = client.get("/stderr.php")
    assert answer.text == "fine"
    told = answer.extensions["fastcgi_stderr"]
    assert b"one problem" in told
    assert b"another" in told
    assert answer.extensions["fastcgi_app_status"] == 0
    assert "GET http://php/stderr.php, stderr: " in caplog.text
    assert "one problem" in caplog.text


def test_statuses_cookies_and_redirects(php: PhpFpm, client: httpx.Client) -> None:
    php.add("teapot.php", 'http_response_code(418); setcookie("a", "1"); setcookie("b", "2");')
    php.add("away.php", 'header("Location: /teapot.php");')
    answer = client.get("/away.php", follow_redirects=True)
    assert (answer.status_code, answer.history[0].status_code) == (418, 302)
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    missing = client.get("/nowhere.php")
    assert (missing.status_code, missing.text) == (404, "File not found.\n")


def test_a_response_comes_as_it_is_written(php: PhpFpm, client: httpx.Client) -> None:
    php.add(
        "stream.php",
        'header("X-Accel-Buffering: no"); $go = $_GET["go"]; echo "first"; flush();'
        ' while (!file_exists($go)) { usleep(2000); clearstatcache(); } echo "last";',
    )
    go = php.folder / "go"
    with client.stream("GET", "/stream.php", params={"go": str(go)}) as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"first"
        go.touch()
        assert b"".join(pieces) == b"last"


@pytest.mark.parametrize("keep_conn", (False, True))
def test_kept_connections(php: PhpFpm, keep_conn: bool) -> None:
    php.add("pid.php", "echo getmypid();")
    limits = ClientLimits(keepalive_expiry=TIMEOUT)
    transport = FcgiTransport(php.address, document_root=str(php.document_root), keep_conn=keep_conn, limits=limits)
    with httpx.Client(transport=transport, base_url="http://php", timeout=TIMEOUT) as client:
        processes = {client.get("/pid.php").text for _ in range(20)}
        assert transport.idle_connections == int(keep_conn)
    assert len(processes) == 1 or not keep_conn


def test_requests_at_once(php: PhpFpm, client: httpx.Client) -> None:
    php.add("id.php", "echo str_repeat($_GET['id'] . ' ', 3000);")

    def get(number: int) -> bool:
        return client.get("/id.php", params={"id": number}).text == f"{number} " * 3000

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(get, range(200)))


def test_a_worker_that_crashes(php: PhpFpm, client: httpx.Client) -> None:
    php.add("crash.php", 'if (isset($_GET["late"])) { echo "begun"; flush(); } exec("kill -9 " . getmypid());')
    with pytest.raises(httpx.RemoteProtocolError, match=r"closed the connection before any response.*error log"):
        client.get("/crash.php")
    with pytest.raises(httpx.RemoteProtocolError, match="closed the connection within the response's body"):
        client.get("/crash.php?late")
    assert client.get(PING_PATH).text == "pong"


def test_an_error_in_php(php: PhpFpm, client: httpx.Client) -> None:
    php.add("wrong.php", 'throw new Exception("it fails");')
    answer = client.get("/wrong.php")
    assert (answer.status_code, b"it fails" in answer.extensions["fastcgi_stderr"]) == (500, True)


def test_timeouts(program: Callable[[str], str]) -> None:
    """One process that is busy: its answer does not come, and then nobody else's."""
    with php_fpm(program("php-fpm"), children=1) as php:
        php.add("slow.php", "sleep(60);")
        transport = FcgiTransport(php.address, document_root=str(php.document_root))
        with httpx.Client(transport=transport, base_url="http://php", timeout=0.1) as client:
            with pytest.raises(httpx.ReadTimeout, match=r"GET http://php/slow.php .*0.1 s \(read timeout\)"):
                client.get("/slow.php")
            with pytest.raises(httpx.ReadTimeout):
                client.get(PING_PATH)
        php.kill()


def test_a_restart_is_not_noticed(program: Callable[[str], str]) -> None:
    """A reload ends the processes that hold kept connections."""
    limits = ClientLimits(keepalive_expiry=TIMEOUT)
    with php_fpm(program("php-fpm"), children=2) as php:
        php.add("pid.php", "echo getmypid();")
        transport = FcgiTransport(php.address, document_root=str(php.document_root), keep_conn=True, limits=limits)
        with httpx.Client(transport=transport, base_url="http://php", timeout=TIMEOUT) as client:
            pid = int(client.get("/pid.php").text)
            os.kill(pid, 15)
            # At whichever moment the connection is found dead.
            assert int(client.get("/pid.php").text) != pid
