"""Whether a user may connect is told as the kernel decides it, and with a cure that helps."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cli.check.permissions import User, find_obstacles
from simple_fastcgi.cli.check.socket import _not_connected, _web_server_user
from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.net.address import parse_bind
from tests.webservers.children import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.check.support import Check

ME, MINE = os.geteuid(), os.getegid()
OWNER = User("owner", ME or 3_999_999_998, frozenset())
MEMBER = User("member", 3_999_999_999, frozenset({MINE}))
STRANGER = User("stranger", 3_999_999_999, frozenset())


@pytest.fixture
def path() -> Iterator[Path]:
    """A socket file two folders below /tmp that all may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name, socket.socket(socket.AF_UNIX) as listening:
        folder = Path(name).resolve() / "app"
        folder.mkdir()
        folder.parent.chmod(0o755)
        folder.chmod(0o755)
        listening.bind(f"{folder}/app.sock")
        listening.listen()
        yield folder / "app.sock"


def cures(path: Path, user: User) -> list[str]:
    return [obstacle.cure for obstacle in find_obstacles(str(path), user)]


def test_the_cure_fits_who_it_is_for(path: Path) -> None:
    path.chmod(0o600)
    assert cures(path, MEMBER) == [f"chmod g+rw {path}; for good: --socket-mode 660"]
    assert cures(path, STRANGER) == [f"chown stranger {path}; for good: --socket-owner stranger"]
    (cure,) = cures(path, User.named("daemon"))
    assert cure == f"chgrp daemon {path} && chmod g+rw {path}; for good: serve with --socket-group daemon"
    path.chmod(0o066)
    assert cures(path, MEMBER) == cures(path, STRANGER) == []
    if not ME:
        os.chown(path, OWNER.uid, -1)
        os.chown(path.parent, OWNER.uid, -1)
        path.parent.chmod(0o077)
        assert cures(path, OWNER)[0] == f"chmod u+x {path.parent}"
        path.parent.chmod(0o755)
    assert cures(path, OWNER) == [f"chmod u+rw {path}; for good: --socket-mode 660"]


def test_each_folder_above_counts(path: Path) -> None:
    path.chmod(0o666)
    folder = path.parent
    folder.chmod(0o700)
    assert cures(path, MEMBER) == [f"chmod g+x {folder}"]
    folder.parent.chmod(0o700)
    found = list(find_obstacles(str(path), STRANGER))
    assert [obstacle.path for obstacle in found] == [str(folder.parent), str(folder)]
    assert "/run" in found[0].cure
    assert f"{folder.parent} has mode 0700 and belongs to " in found[0].why
    assert cures(path, User("root", 0, frozenset())) == []


def test_a_link_leads_through_both_ways(path: Path) -> None:
    path.chmod(0o666)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        link = Path(name).resolve() / "link"
        link.symlink_to(path.parent)
        found = [obstacle.path for obstacle in find_obstacles(f"{link}/app.sock", STRANGER)]
        assert found == [name]
        path.parent.chmod(0o700)
        found = [obstacle.path for obstacle in find_obstacles(f"{link}/app.sock", STRANGER)]
        assert found == [name, str(link), str(path.parent)]


# Prints each mode of folder and socket where what is told and what the kernel does differ.
COMPARING = """
import grp, os, pwd, socket, sys
from simple_fastcgi.cli.check.permissions import User, find_obstacles
path = sys.argv[1]
folder = os.path.dirname(path)
privileged = os.geteuid() == 0
number = 65534 if privileged else os.geteuid()
user = User("nobody", number, frozenset({number if privileged else os.getegid()}))
for group in (0, number) if privileged else (os.getegid(),):
    for folder_mode in (0o700, 0o710, 0o701):
        for mode in (0o600, 0o660, 0o606, 0o666, 0o066, 0o640, 0o400):
            if privileged:
                os.chown(folder, 0, group)
                os.chown(path, 0, group)
            os.chmod(path, mode)
            os.chmod(folder, folder_mode)
            told = not list(find_obstacles(path, user))
            if privileged:
                os.setgroups([])
                os.setegid(number)
                os.seteuid(number)
            with socket.socket(socket.AF_UNIX) as sock:
                code = sock.connect_ex(path)
            if privileged:
                os.seteuid(0)
                os.setegid(0)
            if told != (code == 0):
                print(f"{group} {folder_mode:o} {mode:o}: told {told}, connecting gave {code}")
print("compared")
"""


@pytest.mark.usefixtures("unmeasured")
def test_it_is_what_the_kernel_does(path: Path) -> None:
    # Nobody accepts: as many connections as are tried have to find room.
    with socket.socket(socket.AF_UNIX) as listening:
        path.unlink()
        listening.bind(str(path))
        listening.listen(128)
        done = subprocess.run(
            [sys.executable, "-c", COMPARING, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
        )
    assert done.stdout == "compared\n"


def test_users() -> None:
    assert User.named("root") == User.named("0")
    assert User.named("4000000000") == User("4000000000", 4_000_000_000, frozenset())
    assert User.of_this_process().uid == ME
    for text in ("no-such-user", "", "-1", "4294967295", "99999999999", "a\0b"):
        with pytest.raises(ConfigurationError, match="no such user"):
            User.named(text)


def test_the_command_tells(check: Check, path: Path) -> None:
    path.chmod(0o600)
    said = check(f"unix:{path}", "--timeout", "0.1", "--web-server-user", "daemon")
    assert said.of("web server user")["what"] == "daemon may not connect"
    assert f"{path} has mode 0600" in said.of("web server user")["why"]
    path.chmod(0o666)
    said = check(f"unix:{path}", "--timeout", "0.1", "--web-server-user", "daemon")
    assert said.of("web server user")["status"] == "warning"
    assert "PrivateTmp" in said.of("web server user")["why"]


def test_a_socket_that_vanishes(path: Path) -> None:
    address = parse_bind(f"unix:{path}")
    path.unlink()
    found = _web_server_user(address, STRANGER)
    assert found.what == "it cannot be told whether stranger may connect"
    assert str(path) in found.why


def test_a_refusal_that_no_mode_explains(path: Path) -> None:
    path.chmod(0o666)
    found = _not_connected(PermissionError(errno.EACCES, "Permission denied"), parse_bind(f"unix:{path}"), 1.0)
    assert "SELinux" in found.why
    assert found.final


def test_an_access_control_list_is_told_of(check: Check, path: Path) -> None:
    path.parent.chmod(0o700)
    # Version 2: the owner rwx, user 1 rwx, the group ---, the mask rwx, others ---.
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, 1), (4, 0, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    value = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + number.to_bytes(4, "little")
        for tag, bits, number in entries
    )
    try:
        os.setxattr(path.parent, "system.posix_acl_access", value)
    except OSError:
        # This file system has none: then there is nothing to tell of.
        (obstacle,) = find_obstacles(str(path), STRANGER)
        assert not obstacle.has_acl
        return
    path.chmod(0o666)
    said = check(f"unix:{path}", "--timeout", "0.1", "--web-server-user", "4000000000")
    assert said.of("web server user")["status"] == "warning"
    assert "getfacl" in said.of("web server user")["cure"]
