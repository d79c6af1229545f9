"""``simple-fastcgi config``: what it takes and refuses, and what its services are; the web servers run elsewhere."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli import main
from simple_fastcgi.cli.config import systemd
from simple_fastcgi.cli.config.command import SERVERS, make
from simple_fastcgi.cli.config.plan import Plan
from simple_fastcgi.errors import ConfigurationError
from tests.support.examples import check_nginx
from tests.webservers.children import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Capture = pytest.CaptureFixture[str]

WITHOUT_FILES = {"haproxy"}
"""Those that serve no files, and refuse --static."""
SHOP = ("--app", "shop.web:app", "--directory", "/srv/shop", "--python", "/srv/shop/bin/python")


def printed(capsys: Capture, *words: str) -> tuple[str, str]:
    assert main(["config", *words]) == 0
    said = capsys.readouterr()
    return said.out, said.err


def test_without_a_server_the_servers_are_listed(capsys: Capture) -> None:
    out, err = printed(capsys)
    assert all(f"  {name} " in out for name in SERVERS)
    assert (out.startswith("servers:\n"), err) == (True, "")


def test_help_names_every_server(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["config", "--help"])
    out = capsys.readouterr().out
    assert all(name in out and what in out for name, what in SERVERS.items())
    assert max(map(len, out.splitlines())) <= 120


def test_an_unknown_server_is_told_the_known_ones(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["config", "iis"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in SERVERS)


@pytest.mark.parametrize("server", SERVERS)
def test_every_server_has_a_configuration_and_says_what_to_do_with_it(capsys: Capture, server: str) -> None:
    mounted = ("--root-path", "/app", "--server-name", "shop.example")
    static = () if server in WITHOUT_FILES else ("--static", "/app/static=static")
    for options in ((), (*mounted, *static)):
        out, err = printed(capsys, server, *SHOP, *options)
        assert "shop" in out
        assert f"simple-fastcgi config {server}" in out  # who made it
        assert out.endswith("\n")
        assert not any(line != line.rstrip() for line in out.splitlines())
        assert max(map(len, out.splitlines())) <= 120
        assert err


@pytest.mark.parametrize("server", WITHOUT_FILES)
def test_files_are_refused_where_nothing_serves_them(capsys: Capture, server: str) -> None:
    assert main(["config", server, "--static", "/static=static"]) == 2
    said = capsys.readouterr().err
    assert "--static /static=" in said
    assert "let the application serve them" in said


@pytest.mark.parametrize("server", ["nginx", "haproxy", "caddy"])
def test_the_group_is_the_one_of_the_web_server(capsys: Capture, server: str) -> None:
    group = {"nginx": "www-data"}.get(server, server)
    assert f"--socket-group {group}\n" in printed(capsys, server, "--bind", "unix:/srv/a.sock")[1]
    assert "--socket-group web\n" in printed(capsys, server, "--bind", "unix:/srv/a.sock", "--group", "web")[1]


def test_haproxy_is_told_a_port_unless_a_socket_is_wanted(capsys: Capture) -> None:
    out, err = printed(capsys, "haproxy")
    assert "server app 127.0.0.1:9000 proto fcgi" in out
    assert "chroot" not in err
    out, err = printed(capsys, "haproxy", "--bind", "unix:/run/shop/shop.sock")
    assert "server app unix@/run/shop/shop.sock proto fcgi" in out
    assert "chroot" in err
    assert "/run/shop\n" in err


@pytest.mark.parametrize(
    ("options", "site"),
    [
        ((), "http://:80 {"),
        (("--server-name", "shop.example"), "shop.example {"),
        (("--server-name", "shop.example", "--listen", "8080"), "http://shop.example:8080 {"),
        (("--listen", "127.0.0.1:8080"), "http://:8080 {\n\tbind 127.0.0.1\n"),
    ],
)
def test_what_caddy_listens_for(capsys: Capture, options: tuple[str, ...], site: str) -> None:
    assert f"\n{site}" in printed(capsys, "caddy", *options)[0]


@pytest.mark.parametrize("listen", ["443", "127.0.0.1:443"])
def test_caddy_has_no_certificate_without_a_name(capsys: Capture, listen: str) -> None:
    """It refuses to serve plain HTTP on the port of HTTPS."""
    assert main(["config", "caddy", "--listen", listen]) == 2
    said = capsys.readouterr()
    complaint = f"--listen '{listen}': give --server-name, by which Caddy fetches the certificate"
    assert (said.out, said.err) == ("", f"simple-fastcgi: {complaint}\n")
    assert "\nshop.example {" in printed(capsys, "caddy", "--listen", listen, "--server-name", "shop.example")[0]
    assert "\nhttp://:8443 {" in printed(capsys, "caddy", "--listen", "8443")[0]


# Options, and words of the complaint
BAD: dict[str, tuple[str, ...]] = {
    "--app shop.web": ("--app 'shop.web'", "MODULE:ATTR"),
    "--app shop/web.py:app": ("--app", "MODULE:ATTR"),
    "--app shop.web:": ("--app", "MODULE:ATTR"),
    "--app shop:make()": ("--app", "--factory"),
    "--bind 9000": ("--bind '9000'", "127.0.0.1:9000"),
    "--bind /run/app.sock": ("--bind", "unix:/run/app.sock"),
    "--bind fd://0": ("--bind 'fd://0'", "address to connect to"),
    "--bind unix:@app": ("--bind 'unix:@app'", "socket files"),
    "--bind 127.0.0.1:0": ("--bind '127.0.0.1:0'", "any port"),
    "--bind 0.0.0.0:9000": ("--bind '0.0.0.0:9000'", "all addresses"),
    "--bind [::]:9000": ("--bind '[::]:9000'", "all addresses"),
    "--bind unix:/run/a'b.sock": ("--bind", "quoting"),
    "--bind [fe80::1%eth0]:9000": ("--bind", "quoting"),
    f"--bind unix:/{'x' * 200}": ("--bind", "shorter"),
    f"--name {'x' * 100}": ("--name 'xxx", "/run/NAME/NAME.sock has 211 bytes then", "shorter", "--bind"),
    f"--app {'a.' * 30}b:app": ("--name 'a-a-", "shorter"),
    "--root-path http://shop.example/app": ("--root-path", "without scheme"),
    "--root-path /app?x": ("--root-path '/app?x'", "without ?"),
    "--root-path /a$b": ("--root-path", "'$'", "for example /shop"),
    "--root-path /grün": ("--root-path '/grün'", "'ü'"),
    "--server-name grün.example": ("--server-name", "xn--"),
    "--server-name a,b": ("--server-name", "','"),
    "--server-name *.shop.example": ("--server-name", "'*'"),
    "--listen http": ("--listen 'http'", "PORT"),
    "--listen 0": ("--listen '0'", "PORT"),
    "--listen 70000": ("--listen '70000'", "PORT"),
    "--listen :80": ("--listen ':80'", "PORT"),
    "--listen ::1:80": ("--listen '::1:80'", "[::1]:8080"),
    "--static static": ("--static 'static'", "URL=DIR"),
    "--static static=/srv": ("--static", "URL=DIR"),
    "--static /static=": ("--static", "URL=DIR"),
    "--static /static=/srv/my;files": ("--static", "quoting"),
    "--static /static=a --static /static/=b": ("--static '/static'", "twice"),
    "--static /=a": ("--static '/'", "the application is there"),
    "--root-path /app --static /app=a": ("--static '/app'", "the application is there"),
    "--name a/b": ("--name 'a/b'", "'/'"),
    "--name .hidden": ("--name", "begin it with a letter"),
    "--name=-x": ("--name", "begin it with a letter"),
    "--app größe:app": ("--name 'größe'", "ASCII"),
    "--directory /srv/my{app}": ("--directory", "quoting"),
    "--directory /srv/\udcff": ("--directory", "'\\udcff'"),
    "--python /opt/my%python": ("--python", "quoting"),
    "--python python-of-nobody": ("--python 'python-of-nobody'", "PATH", ".venv/bin/python"),
    "--python=": ("--python ''", ".venv/bin/python"),
    "--user www;data": ("--user", "';'"),
    "--group www:data": ("--group", "':'"),
    "--workers 0": ("--workers 0", "from 1"),
    "--threads -1": ("--threads -1", "from 1"),
    "--max-body-size 0": ("--max-body-size 0", "from 1"),
    "--timeout 99999999": ("--timeout 99999999", "604800"),
}


@pytest.mark.parametrize("options", BAD)
def test_what_no_configuration_can_be_made_of(capsys: Capture, options: str) -> None:
    assert main(["config", "nginx", *options.split(" ")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("simple-fastcgi: ")
    assert said.err.count("\n") == 1
    for words in BAD[options]:
        assert words in said.err


@pytest.mark.parametrize("server", SERVERS)
def test_a_name_may_be_as_long_as_the_path_of_its_socket_lets_it(capsys: Capture, server: str) -> None:
    name = "x" * 240
    socketless = server in {"haproxy", "apache-fcgid"}
    assert main(["config", server, "--name", name]) == (0 if socketless else 2)
    said = capsys.readouterr()
    assert ("--name 'xxx" in said.err) != socketless
    assert "--bind 'unix:" not in said.err
    printed(capsys, server, "--name", name, "--bind", "127.0.0.1:9000")


def test_blanks_are_refused(capsys: Capture) -> None:
    for option in ("--directory", "--python", "--server-name", "--user"):
        assert main(["config", "nginx", option, "/a b"]) == 2
        assert "' '" in capsys.readouterr().err


def test_a_directory_that_is_gone(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert main(["config", "nginx"]) == 2
    assert "the current directory is gone: give a whole path" in capsys.readouterr().err
    printed(capsys, "nginx", "--directory", "/srv")


def test_a_plan_is_refused_as_the_options_are() -> None:
    with pytest.raises(ConfigurationError, match="--workers 0: give a whole number from 1 to 1000"):
        Plan(workers=0)


def test_relative_paths_count_from_the_application(capsys: Capture) -> None:
    out, err = printed(capsys, "nginx", *SHOP, "--bind", "unix:run/app.sock", "--static", "/static=files")
    assert "server unix:/srv/shop/run/app.sock;" in out
    assert "alias /srv/shop/files/;" in out
    assert "--bind unix:/srv/shop/run/app.sock" in err


STARTING = {
    "systemd": "\nExecStart={} -m ",
    "supervisor": "\ncommand={} -m ",
    "lighttpd": '"bin-path" => "{} -m ',
    "apache-fcgid": "\n#!{}\n",
}
"""How those that start the application name the Python."""


@pytest.mark.parametrize("server", STARTING)
def test_a_python_is_found_wherever_it_is_started(
    capsys: Capture, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a virtual environment by the link that it is: what is behind the link knows nothing of the environment."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "its-python").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(programs))
    for python in ("its-python", ".venv/bin/its-python", "./.venv/bin/its-python", f"{programs}/its-python"):
        out, _ = printed(capsys, server, "--directory", str(tmp_path), "--python", python)
        assert STARTING[server].format(programs / "its-python") in out


def test_a_socket_below_run_needs_a_folder(capsys: Capture) -> None:
    assert 'install -d -o "$USER" /run/shop-web\n' in printed(capsys, "nginx", *SHOP)[1]
    for bind in ("127.0.0.1:9000", "localhost:9000", "unix:/srv/shop/app.sock"):
        assert "install -d" not in printed(capsys, "nginx", *SHOP, "--bind", bind)[1]


def test_an_address_that_others_can_reach_needs_a_list(capsys: Capture) -> None:
    assert "--allow-from ADDRESS" in printed(capsys, "nginx", "--bind", "10.0.0.1:9000")[1]
    for bind in ("127.0.0.1:9000", "[::1]:9000", "localhost:9000"):
        assert "--allow-from" not in printed(capsys, "nginx", "--bind", bind)[1]


def test_files_are_written_and_none_is_replaced(capsys: Capture, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    out, _ = printed(capsys, "systemd", *SHOP, "--output", str(folder))
    names = ("shop-web.socket", "shop-web.service")
    assert out.splitlines() == [str(folder / name) for name in names]
    texts = [file.text for file in make("systemd", plan(workers=1)).files]
    assert [(folder / name).read_text() for name in names] == texts
    (folder / "shop-web.socket").unlink()
    assert main(["config", "systemd", *SHOP, "--output", str(folder)]) == 1
    assert "shop-web.service: this file is there already" in capsys.readouterr().err
    assert not (folder / "shop-web.socket").exists()  # all or none
    assert main(["config", "nginx", "--output", str(folder / "shop-web.service")]) == 1
    assert "shop-web.service: File exists" in capsys.readouterr().err


@pytest.mark.once
@pytest.mark.parametrize("words", [(), ("nginx",), ("systemd",), ("systemd", "--output", "made")], ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_takes_nothing(tmp_path: Path, words: tuple[str, ...], unbuffered: str) -> None:
    """One line says so of a full one, whether it fails at once or when the buffer is emptied; there is no advice."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as left, open("/dev/full", "wb") as full:
        full_up = "simple-fastcgi: cannot write to standard output: No space left on device\n"
        for output, told in ((left, ""), (full, full_up)):
            done = subprocess.run(
                [sys.executable, "-m", "simple_fastcgi", "config", *words],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (1, told)
            for file in tmp_path.glob("made/*"):
                file.unlink()


def plan(**settings: object) -> Plan:
    given = {"app": "shop.web:app", "directory": "/srv/shop", "python": "/srv/shop/bin/python", **settings}
    return Plan(**given)  # type: ignore[arg-type]


@pytest.mark.once
def test_nginx_takes_what_it_is_given(program: Callable[[str], str], tmp_path: Path) -> None:
    """In every form that a plan can have, all of them in one nginx."""
    plans = (
        plan(name="plain"),
        plan(name="server", server_name="shop.example", listen="[::1]:8080", bind="[::1]:9000"),
        plan(name="a.b-c", root_path="/a.b+c", static=[("/a.b+c/static", "/srv/static"), ("/", "/srv/root")]),
        plan(name="tcp", bind="127.0.0.1:9000", listen="127.0.0.1:8081", static=[("/s", "s")], max_body_size=1 << 20),
        plan(name="named", bind="localhost:9000", listen="8082", server_name="a.shop.example", timeout=604800),
    )
    texts = [make("nginx", each).files[0].text for each in plans]
    assert [text.count("# listen [::]:") for text in texts] == [1, 0, 1, 0, 1]
    # This machine need not have IPv6.
    checked = "".join(texts).replace("listen [::1]:8080;", "listen 127.0.0.1:8080;")
    assert checked.count("listen 127.0.0.1:8080;") == 1
    check_nginx(program("nginx"), checked, tmp_path)


def units(**settings: object) -> tuple[configparser.ConfigParser, configparser.ConfigParser]:
    """The socket and the service."""
    made = []
    for file in make("systemd", plan(**settings)).files:
        unit = configparser.ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(file.text)
        made.append(unit)
    socket, service = made
    return socket, service


def test_a_service_of_systemd() -> None:
    socket, service = units(workers=1, user="shop", group="web")
    assert dict(socket["Socket"]) == {
        "ListenStream": "/run/shop-web/shop-web.sock",
        "SocketUser": "shop",
        "SocketGroup": "web",
        "SocketMode": "0660",
    }
    assert service["Service"]["ExecStart"] == "/srv/shop/bin/python -m simple_fastcgi serve shop.web:app --workers 1"
    assert service["Service"]["User"] == "shop"
    assert service["Service"]["WorkingDirectory"] == "/srv/shop"
    assert service["Unit"]["Requires"] == "shop-web.socket"
    assert "ExecReload" not in service["Service"]
    assert service["Service"]["ProtectHome"] == service["Service"]["PrivateTmp"] == "yes"
    assert int(service["Service"]["TimeoutStopSec"]) > 30


def test_a_service_of_systemd_elsewhere() -> None:
    socket, service = units(
        bind="[::1]:9000", workers=3, threads=8, root_path="/app", factory=True, python="/home/me/bin/python"
    )
    assert dict(socket["Socket"]) == {"ListenStream": "[::1]:9000"}
    command = "serve shop.web:app --factory --root-path /app --threads 8 --workers 3"
    assert service["Service"]["ExecStart"] == f"/home/me/bin/python -m simple_fastcgi {command}"
    assert service["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert "ProtectHome" not in service["Service"]
    assert "gunicorn" in make("systemd", plan(workers=3)).advice
    assert "PrivateTmp" not in units(directory="/tmp/shop")[1]["Service"]


HOME = "/home/nobody-of-this-name"


@pytest.mark.parametrize(
    ("links", "hidden"),
    [
        ({"venv/bin/python": f"{HOME}/.pyenv/versions/3.14.0/bin/python3"}, True),
        ({"venv/bin/python": "python3", "venv/bin/python3": f"{HOME}/.local/share/uv/python/bin/python3.14"}, True),
        ({"venv/bin/python": "../../tools/python", "tools": f"{HOME}/tools"}, True),
        # On its way back it has been there.
        ({"venv/bin/python": "../../home/../python", "home": HOME}, True),
        ({"shop": HOME}, True),
        ({"venv": "/run/user/1000/venv"}, True),
        ({"venv/bin/python": "/usr/bin/python3"}, False),
        ({"venv/bin/python": "/home-of-python/bin/python3"}, False),
        ({"venv/bin/python": "python3", "venv/bin/python3": "python"}, False),
    ],
)
def test_a_service_sees_the_home_that_its_links_lead_to(tmp_path: Path, links: dict[str, str], hidden: bool) -> None:
    """Homes are hidden from who does not need them: this one would not start (203/EXEC, 200/CHDIR)."""
    for place, target in links.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to(target)
    service = units(directory=str(tmp_path / "shop"), python=str(tmp_path / "venv/bin/python"))[1]["Service"]
    assert ("ProtectHome" not in service) == hidden


def test_homes_that_are_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /home is a link to /var/home on some systems, where a shell says that it is in /var/home/me."""
    (tmp_path / "var" / "home").mkdir(parents=True)
    (tmp_path / "home").symlink_to("var/home")
    monkeypatch.setitem(systemd.HIDDEN, "ProtectHome", (str(tmp_path / "home"),))
    for place in ("home/me", "var/home/me"):
        assert "ProtectHome" not in units(directory=str(tmp_path / place))[1]["Service"]
    assert "ProtectHome" in units(directory=str(tmp_path / "var"))[1]["Service"]


@pytest.mark.once
def test_systemd_takes_them(capsys: Capture, program: Callable[[str], str], tmp_path: Path) -> None:
    options = ("--directory", str(tmp_path), "--python", sys.executable, "--user", "root", "--group", "root")
    printed(capsys, "systemd", "--app", "shop.web:app", *options, "--output", str(tmp_path))
    files = [str(tmp_path / f"shop-web.{kind}") for kind in ("socket", "service")]
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )
    # It also looks at units of the machine that these stand behind.
    assert "shop-web" not in done.stderr


def test_a_group_of_supervisor() -> None:
    group, folder = make("supervisor", plan(workers=3, user="shop", group="web", root_path="/app")).files
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))  # as supervisord reads it
    parser.read_string(group.text)
    (section,) = parser.sections()
    assert section == "fcgi-program:shop-web"
    assert dict(parser[section]) == {
        "socket": "unix:///run/shop-web/shop-web.sock",
        "socket_owner": "shop:web",
        "socket_mode": "0660",
        "command": "/srv/shop/bin/python -m simple_fastcgi serve shop.web:app --root-path /app",
        "directory": "/srv/shop",
        "user": "shop",
        "numprocs": "3",
        "process_name": "%(program_name)s_%(process_num)d",
        "autorestart": "true",
        "stopsignal": "TERM",
        "stopwaitsecs": "40",
        "redirect_stderr": "true",
    }
    assert folder.path == "/etc/tmpfiles.d/shop-web-socket.conf"
    assert folder.text.splitlines()[-1] == "d /run/shop-web 0755 root root"


def test_the_service_that_is_advised_is_the_one_that_the_web_server_connects_to(capsys: Capture) -> None:
    options = ("--user", "shop", "--group", "web", "--name", "shop", "--threads", "8", "--factory")
    _, advice = printed(capsys, "nginx", *SHOP, *options)
    assert service_of(capsys, advice) == printed(capsys, "systemd", *SHOP, *options)[0]
    _, advice = printed(capsys, "haproxy", "--app", "shop.web:app", "--directory", "/srv/shop")
    assert "config systemd --app shop.web:app --directory /srv/shop --bind 127.0.0.1:9000\n" in advice
    assert " simple-fastcgi serve shop.web:app --bind 127.0.0.1:9000 --chdir /srv/shop\n" in advice


@pytest.mark.parametrize("server", ["nginx", "apache-proxy", "haproxy", "caddy", "lighttpd"])
@pytest.mark.parametrize("workers", ["1", "2", "3"])
def test_who_is_told_more_advises_it(capsys: Capture, server: str, workers: str) -> None:
    """Nothing of it stands in the web server's own configuration: without the advice it would be lost."""
    options = (*SHOP, "--bind", "127.0.0.1:9000", "--user", "shop", "--workers", workers)
    _, advice = printed(capsys, server, *options)
    assert service_of(capsys, advice) == printed(capsys, "systemd", *options)[0]
    by_hand = f"serve shop.web:app --bind 127.0.0.1:9000 --workers {workers} --chdir /srv/shop\n"
    assert f"    /srv/shop/bin/python -m simple_fastcgi {by_hand}" in advice


@pytest.mark.parametrize("server", ["nginx", "apache-proxy", "haproxy", "caddy", "lighttpd"])
def test_what_goes_without_saying_is_not_advised(capsys: Capture, server: str) -> None:
    _, advice = printed(capsys, server, "--bind", "127.0.0.1:9000")
    assert not any(option in advice for option in ("--user", "--python", "--workers", sys.executable))


def service_of(capsys: Capture, advice: str) -> str:
    """What the command that is advised prints."""
    (command,) = [line.split() for line in advice.splitlines() if "config systemd" in line]
    assert command.pop(0) == "simple-fastcgi"
    return printed(capsys, *command[1:])[0]


@pytest.mark.parametrize("server", ["systemd", "supervisor"])
def test_a_service_that_other_machines_can_reach(server: str) -> None:
    """Who opens the socket does not ask who may connect."""
    made = make(server, plan(bind="10.0.0.5:9000"))
    assert " --allow-from ADDRESS_OF_THE_WEB_SERVER" in made.files[-1].text
    assert "ADDRESS_OF_THE_WEB_SERVER" in made.advice
    assert "--allow-from" not in make(server, plan(bind="127.0.0.1:9000")).files[-1].text


def test_addresses_that_no_service_can_have() -> None:
    assert units(bind="localhost:9000")[0]["Socket"]["ListenStream"] == "127.0.0.1:9000"
    with pytest.raises(ConfigurationError, match="--bind app.internal:9000: systemd takes no host names"):
        make("systemd", plan(bind="app.internal:9000"))
    with pytest.raises(ConfigurationError, match=r"--bind \[::1\]:9000: supervisord opens no IPv6 sockets"):
        make("supervisor", plan(bind="[::1]:9000"))


def test_an_address_is_of_no_use_to_apache_that_spawns() -> None:
    assert "--bind is passed over" in make("apache-fcgid", plan(bind="127.0.0.1:9000")).advice
    assert "--bind" not in make("apache-fcgid", plan()).advice


def test_a_group_of_supervisor_elsewhere() -> None:
    (group,) = make("supervisor", plan(bind="127.0.0.1:9000")).files
    assert "socket=tcp://127.0.0.1:9000\ncommand=" in group.text
    (group,) = make("supervisor", plan(bind="unix:/srv/shop/app.sock")).files
    assert "socket=unix:///srv/shop/app.sock\n" in group.text
