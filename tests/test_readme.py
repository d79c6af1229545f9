"""Every example in README.md does what it says."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from textwrap import indent
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.limits import KIB, MIB, Limits
from tests.support.examples import ROOT, blocks_of, check_nginx, connect, running, spawned
from tests.support.webserver import TIMEOUT, params_for
from tests.webservers.fronts import free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.php import PhpFpm
    from tests.support.webserver import WebServer

pytestmark = pytest.mark.no_cover

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return blocks_of(README, language)


def commands(start: str) -> list[list[str]]:
    lines = "".join(blocks("console")).splitlines()
    return [shlex.split(line[2:]) for line in lines if line.startswith(f"$ {start}")]


def example(containing: str) -> str:
    (found,) = [block for block in blocks("python") if containing in block]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("hello.py", "hello_async.py"):
        (tmp_path / name).write_text(example(f"# {name}"))
    return tmp_path


@pytest.mark.parametrize("containing", ["(HttpResponseMixin, FcgiHandler)", "(AsyncHttpResponseMixin"])
def test_native_programs_run_as_they_stand(tmp_path: Path, containing: str) -> None:
    with spawned(example(containing), tmp_path) as web_server:
        response = web_server.request(params_for("/x?y=1"))
    assert response.head["content-type"] == "application/json"
    assert b'"QUERY_STRING": "y=1"' in response.body


@pytest.mark.parametrize("containing", ["(HttpResponseMixin, FcgiHandler)", "(AsyncHttpResponseMixin"])
def test_native_programs_that_end_gracefully(tmp_path: Path, containing: str) -> None:
    is_async = "Async" in containing
    lines = example("add_signal_handler" if is_async else "signal.signal")
    wait = "        open('begun', 'w').close()\n        [await ]self.readall()\n        [await ]self.send_response("
    source = example(containing).replace(
        f"        {'await ' * is_async}self.send_response(", wait.replace("[await ]", "await " * is_async)
    )
    serving = f"        {'await ' * is_async}server.serve_forever()"
    assert serving in source
    source = "import signal\n" + source.replace(serving, indent(lines, " " * 8) + serving)
    with native(source, tmp_path) as (process, web_server):
        web_server.begin(params_for("/x"))
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        process.terminate()
        web_server.body(b"all of it", end=True)
        assert web_server.response().status == 200
        assert process.wait(TIMEOUT) == 0


@contextmanager
def native(source: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], WebServer]]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/s")
        listening.listen()
        command = [sys.executable, "-c", source]
        with running(command, folder, listening.fileno()) as process, connect(folder / "s") as web_server:
            yield process, web_server


def test_a_native_program_without_spawn_fcgi(tmp_path: Path) -> None:
    (server,) = re.findall(r"`(FcgiServer\(Echo, socket.*?)`", README)
    (call,) = re.findall(r"`simple-fastcgi (call 127.*?)`", README)
    host, port = free_address()
    source = example("(HttpResponseMixin, FcgiHandler)").replace("FcgiServer(Echo)", server)
    source = "import socket\n" + source.replace("127.0.0.1", host).replace("9000", str(port))
    words = call.replace("127.0.0.1:9000", f"{host}:{port}").split()
    with running([sys.executable, "-c", source], tmp_path):
        connect((host, port)).close()
        done = subprocess.run(
            [sys.executable, "-m", "simple_fastcgi", *words], cwd=ROOT, capture_output=True, check=True
        )
    assert b'"REQUEST_METHOD": "GET"' in done.stdout


def test_spawn_fcgi_command(tmp_path: Path, program: Callable[[str], str]) -> None:
    (command,) = commands("spawn-fcgi")
    (tmp_path / "echo.py").write_text(example("(HttpResponseMixin, FcgiHandler)"))
    command[0] = program("spawn-fcgi")
    path = tmp_path / "echo.sock"
    command[command.index("/run/echo.sock")] = str(path)
    group = command.index("-G")  # the web server's group need not exist here
    del command[group : group + 2]
    command[command.index("/usr/bin/python3")] = sys.executable
    with running(command, tmp_path), connect(path) as web_server:
        assert web_server.request(params_for("/")).status == 200


@pytest.mark.parametrize(("name", "answer"), [("hello", b"Hello from WSGI\n"), ("hello_async", b"Hello from ASGI\n")])
def test_serve_command(folder: Path, name: str, answer: bytes) -> None:
    (command,) = [words for words in commands("simple-fastcgi serve") if "--help" not in words]
    words = [word.replace("/run/hello", str(folder)).replace("hello:", f"{name}:") for word in command[1:]]
    with running([sys.executable, "-m", "simple_fastcgi", *words], folder), connect(folder / "app.sock") as web_server:
        assert web_server.request(params_for("/")).body == answer


def test_call_and_check_commands(folder: Path, php: PhpFpm) -> None:
    (serve,) = [words for words in commands("simple-fastcgi serve") if "--help" not in words]
    php.add("index.php", 'echo $_SERVER["REQUEST_METHOD"];')
    python = [sys.executable, "-m", "simple_fastcgi"]
    answers = []
    with running([*python, *(word.replace("/run/hello", str(folder)) for word in serve[1:])], folder):
        connect(folder / "app.sock").close()
        for command in commands("simple-fastcgi call"):
            words = [
                word.replace("/run/hello", str(folder)).replace("/var/www", str(php.document_root)) for word in command
            ]
            words = [word.replace("unix:/run/php/php-fpm.sock", php.address) for word in words]
            done = subprocess.run([*python, *words[1:]], cwd=ROOT, capture_output=True, check=True)
            answers.append(done.stdout.rpartition(b"\r\n")[2])
        (check,) = commands("simple-fastcgi check")
        words = [word.replace("/run/hello", str(folder)).replace("www-data", "root") for word in check]
        told = subprocess.run([*python, *words[1:]], cwd=ROOT, capture_output=True, check=True).stdout
    assert answers == [b"Hello from WSGI\n", b"POST"]
    assert b"it speaks FastCGI" in told


def test_serve_call(folder: Path) -> None:
    (folder / "run.py").write_text(example("serve(app").replace("/run/hello", str(folder)))
    with running([sys.executable, "run.py"], folder), connect(folder / "app.sock") as web_server:
        assert web_server.request(params_for("/")).body == b"Hello from WSGI\n"


def test_client(tmp_path: Path, php: PhpFpm) -> None:
    php.add("index.php", 'echo "page ", $_GET["page"];')
    source = example("FcgiTransport(").replace("unix:/run/php/php-fpm.sock", php.address)
    source = source.replace("/var/www", str(php.document_root))
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "page 1\n"


def test_nginx_accepts_the_configuration(tmp_path: Path, program: Callable[[str], str]) -> None:
    (location,) = blocks("nginx")
    check_nginx(program("nginx"), f"server {{ {location} }}", tmp_path)


def test_config_command(tmp_path: Path, program: Callable[[str], str]) -> None:
    """What it prints is run elsewhere (tests/webservers)."""
    (command,) = commands("simple-fastcgi config")
    words = command[1 : command.index(">")]
    done = subprocess.run([sys.executable, "-m", "simple_fastcgi", *words], cwd=ROOT, capture_output=True, check=True)
    check_nginx(program("nginx"), done.stdout.decode(), tmp_path)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"make (\w+)`|\$ make (\w+)", README))
    assert named
    for target in {one or other for one, other in named}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_settings_are_the_limits() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", README, re.MULTILINE))
    units = {"MiB": MIB, "KiB": KIB, "s": 1}
    told = {}
    for name, text in table.items():
        number, _, unit = text.partition(" ")
        told[name] = int(number) * units.get(unit, 1)
    assert told == Limits.DEFAULTS
