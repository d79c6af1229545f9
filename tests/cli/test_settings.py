"""Settings in a file and in the environment mean what the options mean on the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.cli import main
from simple_fastcgi.cli import serve as command
from simple_fastcgi.cli.quick import QuickParser
from simple_fastcgi.cli.settings import with_settings
from simple_fastcgi.errors import ConfigurationError
from tests.support.webserver import WebServer, params_for
from tests.webservers.children import ROOT, App, Child

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARSER = QuickParser()
command.add_arguments(PARSER)


def read(words: Sequence[str], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    found = PARSER.read(with_settings(words, PARSER.options, PARSER.positional, environ or {}))
    assert found is not None
    return vars(found)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "pyproject.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_the_project_and_the_environment_and_the_command_line(folder: Path) -> None:
    write(
        folder,
        """
        [project]
        name = "shop"
        [tool.simple-fastcgi]
        app = "shop.web:app"
        bind = "unix:/run/shop.sock"
        threads = 8
        idle_timeout = 2.5
        allow-from = ["10.0.0.1", "::1"]
        factory = true
        no-unbuffered-events = false
        """,
    )
    found = read([])
    assert (found["app"], found["bind"], found["threads"]) == ("shop.web:app", "unix:/run/shop.sock", 8)
    assert (found["idle_timeout"], found["allow_from"]) == (2.5, ["10.0.0.1", "::1"])
    assert (found["factory"], found["no_unbuffered_events"]) == (True, False)
    environ = {"SIMPLE_FASTCGI_THREADS": "4", "SIMPLE_FASTCGI_BIND": "fd://3", "SIMPLE_FASTCGI_FACTORY": "no"}
    found = read(["other:app", "--bind=127.0.0.1:9000", "--allow-from", "10.1.0.0/16"], environ)
    assert (found["app"], found["bind"], found["threads"]) == ("other:app", "127.0.0.1:9000", 4)
    assert (found["allow_from"], found["factory"]) == (["10.1.0.0/16"], False)


def test_an_option_whose_value_may_be_left_out(folder: Path) -> None:
    option = "--reload-on-touch"
    for text, meaning in (("true", [option]), ("false", []), ('[true, "a"]', [option, f"{option}=a"])):
        write(folder, f"[tool.simple-fastcgi]\nreload-on-touch = {text}\n")
        words = with_settings(["shop:app"], PARSER.options, PARSER.positional, {})
        assert [word for word in words if word != "shop:app"] == meaning
        assert read(["shop:app"])["app"] == read(["--threads", "4", "shop:app"])["app"] == "shop:app"


def test_a_table_with_an_underscore(folder: Path) -> None:
    write(folder, "[tool.simple_fastcgi]\nthreads = 7\n")
    assert read(["shop:app"])["threads"] == 7
    write(folder, "[tool.simple_fastcgi]\nthread = 7\n")
    with pytest.raises(ConfigurationError, match=r"^pyproject\.toml, \[tool\.simple_fastcgi\]: thread: there is no"):
        read(["shop:app"])


@pytest.mark.parametrize("text", ["true", "Yes", "on", "1", "false", "No", "off", "0", ""])
def test_yes_and_no_in_the_environment_are_no_file_to_be_touched(text: str) -> None:
    found = read(["shop:app"], {"SIMPLE_FASTCGI_RELOAD_ON_TOUCH": text})
    assert found["reload_on_touch"] == ([True] if text.lower() in ("true", "yes", "on", "1") else None)
    assert read(["shop:app"], {"SIMPLE_FASTCGI_RELOAD_ON_TOUCH": "./on"})["reload_on_touch"] == ["./on"]
    words = ["--threads", "3", "--", "shop:app"]
    words = with_settings(words, PARSER.options, PARSER.positional, {"SIMPLE_FASTCGI_RELOAD_ON_TOUCH": text})
    option = ["--reload-on-touch"] if found["reload_on_touch"] else []
    assert words == ["--threads", "3", *option, "--", "shop:app"]


def test_as_many_as_the_machine_can_have(folder: Path) -> None:
    write(folder, "[tool.simple-fastcgi]\nworkers = 'auto'\nthreads = 8\n")
    found = read(["shop:app"], {"SIMPLE_FASTCGI_THREADS": "auto"})
    assert (found["workers"], found["threads"]) == ("auto", "auto")


def test_a_file_of_its_own(folder: Path) -> None:
    """It is read instead of the project's, and needs no table."""
    write(folder, "[tool.simple-fastcgi]\nthreads = 8\nmax_params = 7\n")
    plain = write(folder, 'app = "shop:app"\nthreads = 2\n', "plain.toml")
    table = write(folder, '[tool.simple-fastcgi]\napp = "shop:app"\nthreads = 3\n', "table.toml")
    for words, environ in (
        ([f"--config={plain}"], {}),
        (["--config", plain], {}),
        ([], {"SIMPLE_FASTCGI_CONFIG": plain}),
    ):
        found = read(words, environ)
        assert (found["app"], found["threads"], found["max_params"]) == ("shop:app", 2, None)
    assert read([f"--config={table}"])["threads"] == 3


def test_the_files_of_the_folder_that_is_changed_to(folder: Path) -> None:
    place = folder / "shop"
    place.mkdir()
    write(folder, "[tool.simple-fastcgi]\nthreads = 8\n")
    write(place, "[tool.simple-fastcgi]\nthreads = 2\n")
    write(place, "threads = 3\n", "own.toml")
    assert read(["shop:app", "--chdir", str(place)])["threads"] == 2
    assert read(["shop:app", "--chdir=shop", "--config=own.toml"])["threads"] == 3
    assert read(["shop:app"], {"SIMPLE_FASTCGI_CHDIR": "shop"})["threads"] == 2
    assert read(["shop:app", "--chdir=nowhere"])["threads"] == "auto"


def test_an_address_for_programs_that_are_given_no_socket(folder: Path) -> None:
    """The file's is passed over, with what belongs to it; the command line's is not."""
    write(folder, '[tool.simple-fastcgi]\napp = "shop:app"\nbind = "fd://3"\nsocket-mode = "600"\nthreads = 8\n')

    def found(*words: str, **environ: str) -> list[str]:
        return with_settings(words, PARSER.options, PARSER.positional, environ, given="socket")

    assert found(SIMPLE_FASTCGI_SOCKET_GROUP="web") == ["shop:app", "--threads=8"]
    assert found("--bind", "unix:y") == ["shop:app", "--socket-mode=600", "--threads=8", "--bind", "unix:y"]
    with pytest.raises(ConfigurationError, match="bind"):
        write(folder, "[tool.simple-fastcgi]\nbind = true\n")
        found()


@pytest.mark.parametrize(
    ("file", "words", "environ", "passed_over"),
    [
        ("bind='unix:x'\nsocket-group='web'\nsocket-mode='600'", "--bind 127.0.0.1:0", "", "socket-group socket-mode"),
        ("bind='unix:x'\nsocket-group='web'", "", "BIND=127.0.0.1:0", "socket-group"),
        ("bind='unix:x'\nsocket-group='web'", "--bind unix:@x", "", "socket-group"),
        ("bind='unix:x'\nsocket-group='web'", "--bind fd://3", "", "socket-group"),
        ("socket-group='web'", "--bind 127.0.0.1:0", "", "socket-group"),
        ("bind='10.0.0.1:1'\nallow-from='10.0.0.2'", "--bind unix:x", "", "allow-from"),
        ("bind='10.0.0.1:1'\nallow-from=['10.0.0.2']", "", "BIND=unix:x", "allow-from"),
        # It is access control: whatever has a peer's address goes on asking it.
        ("bind='10.0.0.1:1'\nallow-from='10.0.0.2'", "--bind 127.0.0.1:0", "", ""),
        ("bind='10.0.0.1:1'\nallow-from='10.0.0.2'", "--bind fd://3", "", ""),
        ("bind='10.0.0.1:1'\nallow-from='10.0.0.2'\nstatus-bind='127.0.0.1:2'", "--bind unix:x", "", ""),
        # These are not weaker, or no address.
        ("bind='unix:x'\nsocket-group='web'", "--bind unix:y", "", ""),
        ("bind='unix:x'\nallow-from='10.0.0.2'", "", "", ""),
        ("bind='127.0.0.1:0'", "", "SOCKET_MODE=600", ""),
        ("bind='127.0.0.1:0'\nsocket-mode='600'", "", "THREADS=3", ""),
        ("bind='unix:x'\nsocket-group='web'", "--bind nonsense", "", ""),
    ],
)
def test_who_may_connect_goes_with_the_address(
    folder: Path, file: str, words: str, environ: str, passed_over: str
) -> None:
    write(folder, f"[tool.simple-fastcgi]\n{file}\n")
    name, _, value = environ.partition("=")
    variables = {f"SIMPLE_FASTCGI_{name}": value} if environ else {}
    found = with_settings(["shop:app", *words.split()], PARSER.options, PARSER.positional, variables)
    names = {"allow-from", "socket-group", "socket-mode"}
    told = {line.partition("=")[0].strip() for line in file.splitlines()} | {name.lower().replace("_", "-")}
    kept = {word.removeprefix("--").partition("=")[0] for word in found}
    assert names & told - kept == set(passed_over.split())


def test_an_address_of_another_kind_serves(folder: Path, tmp_path: Path) -> None:
    """On the command line, in place of a file's."""
    (folder / "shop.py").write_text("def app(environ, start_response): ...\n")
    write(folder, "[tool.simple-fastcgi]\nbind = 'unix:x.sock'\nsocket-mode = '600'\n")
    with App.serve("shop:app", "127.0.0.1:0", tmp_path / "log", cwd=folder):
        pass
    write(folder, "[tool.simple-fastcgi]\nbind = '127.0.0.1:0'\nallow-from = ['127.0.0.1']\n")
    with App.serve("shop:app", f"unix:{folder}/x.sock", tmp_path / "log2", cwd=folder):
        pass


def test_processes_for_programs_that_are_given_one_request(folder: Path) -> None:
    write(folder, '[tool.simple-fastcgi]\nbind = "fd://3"\nworkers = 2\nmax-requests = 9\nthreads = 8\n')

    def found(*words: str) -> list[str]:
        environ = {"SIMPLE_FASTCGI_MAX_REQUESTS_JITTER": "5"}
        return with_settings(words, PARSER.options, PARSER.positional, environ, given="request")

    assert found("shop:app") == ["--threads=8", "shop:app"]
    assert found("shop:app", "--workers=3") == ["--threads=8", "shop:app", "--workers=3"]
    assert found("shop:app", "--bind=fd://4")[:2] == ["--workers=2", "--max-requests=9"]


@pytest.mark.parametrize(
    "text", ("", "[project]\n", "[tool.simple-fastcgi-other]\nx = 1\n", "tool = 5 # simple-fastcgi\n")
)
def test_a_project_that_says_nothing(folder: Path, text: str) -> None:
    write(folder, text)
    assert read(["shop:app"])["threads"] == "auto"


def test_a_variable_that_names_no_file(folder: Path) -> None:
    write(folder, "[tool.simple-fastcgi]\nthreads = 8\n")
    assert read(["shop:app"], {"SIMPLE_FASTCGI_CONFIG": ""})["threads"] == 8


def test_a_project_without_a_file(folder: Path) -> None:
    assert read(["shop:app"])["threads"] == "auto"
    (folder / "pyproject.toml").write_text("neither [TOML nor ours")
    assert read(["shop:app"])["threads"] == "auto"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("thread = 8", "thread: there is no such setting; did you mean threads?"),
        ("zzz = 8", "zzz: there is no such setting; simple-fastcgi serve --help lists them"),
        ("max-params = 8\nmax_params = 9", "max_params is there twice, with a hyphen and with an underscore: drop one"),
        ("threads = 'many'", "threads: 'many': give a whole number, or auto"),
        ("max-params = 'many'", "max-params: 'many': give a whole number\n"),
        ("threads = 2.5", "threads: '2.5': give a whole number"),
        ("threads = true", "threads: True: give a text or a number"),
        ("threads = [1]", "threads: [1]: give a text or a number"),
        ("idle-timeout = 'long'", "idle-timeout: 'long': give a number"),
        ("loop = 'trio'", "loop: 'trio': give one of auto, asyncio, uvloop"),
        ("factory = 5", "factory: 5: give true or false"),
        ("allow-from = [[1]]", "allow-from: [1]: give a text or a number"),
        ("bind = {a = 1}", "bind: {'a': 1}: give a text or a number"),
        ("app = 3", "app: 3: give MODULE:ATTR in quotes"),
        ("socket-mode = 0o660", 'socket-mode: give it in quotes: socket-mode = "660"\n'),
        ("socket_mode = 660", 'socket_mode: give it in quotes: socket-mode = "660"\n'),
        ("config = 'x'", "config: a file of settings cannot name another one"),
    ],
)
def test_what_cannot_be_a_setting_is_refused(
    folder: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, f"[tool.simple-fastcgi]\n{text}\n")
    assert main(["serve", *["shop:app"] * (text != "app = 3")]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"simple-fastcgi: pyproject.toml, [tool.simple-fastcgi]: {told}")
    assert line.count("\n") == 1


def test_variables_that_cannot_be_settings() -> None:
    with pytest.raises(ConfigurationError, match=r"^the environment's SIMPLE_FASTCGI_TREADS: .* mean threads\?$"):
        read(["shop:app"], {"SIMPLE_FASTCGI_TREADS": "8"})
    with pytest.raises(ConfigurationError, match=r"^the environment's SIMPLE_FASTCGI_FACTORY: 'maybe': give true"):
        read(["shop:app"], {"SIMPLE_FASTCGI_FACTORY": "maybe"})
    with pytest.raises(ConfigurationError, match=r"^the environment's SIMPLE_FASTCGI_WORKERS: '': give a whole"):
        read(["shop:app"], {"SIMPLE_FASTCGI_WORKERS": ""})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[tool.simple-fastcgi]\nthreads = \n", "Invalid value"),
        (b"\xff # simple-fastcgi", "can't decode"),
        (b"[tool]\nsimple-fastcgi = 5\n", "give a table of settings"),
        (b"[tool.simple-fastcgi]\nthreads = 4\nthreads = 5\n", r"Cannot overwrite a value \(at line 3, column 12\)"),
        (b"[tool.simple_fastcgi]\n[tool.simple-fastcgi]\n", "are one table: drop one"),
    ],
)
def test_files_that_cannot_be_understood(folder: Path, content: bytes, told: str) -> None:
    (folder / "pyproject.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^pyproject.toml.*{told}"):
        read(["shop:app"])


def test_files_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^missing\.toml: No such file or directory$"):
        read(["shop:app", "--config", "missing.toml"])
    with pytest.raises(ConfigurationError, match=r"^/: Is a directory$"):
        read(["shop:app"], {"SIMPLE_FASTCGI_CONFIG": "/"})
    with pytest.raises(ConfigurationError, match=r"^--config '': it names no file"):
        read(["shop:app", "--config", ""])
    (folder / "pyproject.toml").mkdir()
    with pytest.raises(ConfigurationError, match=r"^pyproject\.toml: Is a directory$"):
        read(["shop:app"])


# As nobody, once everything is imported: another user may be unable to read the interpreter's folder.
UNPRIVILEGED = """
import difflib, os, sys, tomllib
from simple_fastcgi.cli import serve
from simple_fastcgi.cli.quick import QuickParser
from simple_fastcgi.cli.settings import with_settings
from simple_fastcgi.errors import ConfigurationError
parser = QuickParser()
serve.add_arguments(parser)
if os.geteuid() == 0:
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
try:
    print(with_settings(sys.argv[1:], parser.options, parser.positional, {}))
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.usefixtures("unmeasured")
def test_folders_and_files_that_are_closed(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir()

    def told(*words: str) -> str:
        command = [sys.executable, "-c", UNPRIVILEGED, "shop:app", *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=closed, env=env, capture_output=True, text=True, check=True).stdout

    why = "Permission denied: give a directory that the user who runs this may enter\n"
    closed.chmod(0)
    try:
        # Nothing is wanted of it but a file that may not even be there.
        assert told() == "['shop:app']\n"
        assert told("--chdir", str(closed)) == f"--chdir {str(closed)!r}: {why}"
        assert told("--chdir", str(closed), "--config=a.toml") == f"--chdir {str(closed)!r}: {why}"
        assert told("--config=a.toml") == "a.toml: Permission denied\n"
    finally:
        closed.chmod(0o755)
    # What is there may say who may connect.
    Path(write(closed, "[tool.simple-fastcgi]\nthreads = 8\n")).chmod(0)
    assert told() == "pyproject.toml: Permission denied\n"


def test_help_needs_no_settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "[tool.simple-fastcgi]\nthread = 8\n")
    with pytest.raises(SystemExit) as end:
        main(["serve", "--help"])
    assert end.value.code == 0
    assert "SIMPLE_FASTCGI_THREADS=8" in capsys.readouterr().out


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda text: text[:1] != "-")
SETTINGS = st.one_of(
    st.tuples(st.sampled_from(("threads", "workers", "max-params")), st.integers(1, 10**6)),
    st.tuples(st.just("idle-timeout"), st.floats(0.5, 1e6)),
    st.tuples(st.just("loop"), st.sampled_from(("auto", "asyncio", "uvloop"))),
    st.tuples(st.just("root-path"), TEXTS),
)


@given(st.dictionaries(st.sampled_from(("FILE", "ENVIRONMENT")), st.lists(SETTINGS), max_size=2), st.lists(SETTINGS))
def test_each_source_says_what_options_say(
    sources: dict[str, list[tuple[str, Any]]], written: list[tuple[str, Any]]
) -> None:
    file, environ = dict(sources.get("FILE", ())), dict(sources.get("ENVIRONMENT", ()))
    words = [f"--{name}={value}" for name, value in written]
    # In front, so that the later wins.
    expected = PARSER.read(["a:b", *(f"--{name}={value}" for name, value in {**file, **environ}.items()), *words])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "settings.toml")
        Path(path).write_text(
            "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in file.items())
        )
        variables = {f"SIMPLE_FASTCGI_{name.replace('-', '_').upper()}": str(value) for name, value in environ.items()}
        found = read(["a:b", *words, f"--config={path}"], variables)
    assert expected is not None
    assert found == {**vars(expected), "config": path}


def test_the_examples_of_the_documentation(folder: Path) -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (line,) = re.findall(r"```console\n\$ (SIMPLE_FASTCGI_.*?)\n", page)
    write(folder, toml)
    variable, *words = line.split()
    assert words[:2] == ["simple-fastcgi", "serve"]
    name, _, value = variable.partition("=")
    found = read(words[2:], {name: value})
    assert (found["app"], found["bind"], found["threads"]) == ("shop.web:app", "unix:/run/shop/shop.sock", 16)
    assert (found["workers"], found["socket_mode"], found["idle_timeout"]) == (2, "660", 120)
    (setting,) = re.findall(r"`(allow-from = .*?)`", page)
    write(folder, f"[tool.simple-fastcgi]\n{setting}\n")
    assert read(["shop.web:app"])["allow_from"] == ["10.0.0.1", "10.0.0.2"]


def test_the_example_of_the_documentation_serves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMPLE_FASTCGI_WORKERS")
    (toml,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "settings.md").read_text(), re.DOTALL)
    package = folder / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "web.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'the shop']\n"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as run:
        write(folder, toml.replace("/run/shop", run))
        command = [sys.executable, "-m", "simple_fastcgi", "serve"]
        with Child(command, folder / "log", cwd=folder, env={"SIMPLE_FASTCGI_THREADS": "16"}) as child:
            child.wait_for(rf"serving shop.web:app \(WSGI, 2 workers of 16 threads.*\) on unix:{run}/shop.sock")
            with WebServer(f"{run}/shop.sock") as web_server:
                assert web_server.request(params_for("/")).body == b"the shop"
