"""Who may use a socket file, as root and as anybody."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.net import bind_socket
from simple_fastcgi.net.access import FileAccess, group_name, user_name
from tests.net.support import linux, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mode", ["600", "0600", "0o600", 0o600])
@pytest.mark.parametrize("umask", [0, 0o777])
def test_mode_is_set_as_it_is(folder: Path, mode: str | int, umask: int) -> None:
    before = os.umask(umask)
    try:
        with bind_socket(f"unix:{folder}/s", socket_mode=mode):
            assert stat.S_IMODE((folder / "s").lstat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_owner_and_group_by_name_or_number(folder: Path) -> None:
    user, group = folder.owner(), folder.group()
    uid, gid = os.geteuid(), os.getegid()
    for owner_given, group_given in ((user, group), (uid, gid), (str(uid), str(gid)), (None, group), (user, None)):
        with bind_socket(f"unix:{folder}/s", socket_owner=owner_given, socket_group=group_given) as bound:
            assert bound.describe().endswith(f"owner {user}:{group})")


def test_numbers_need_no_names() -> None:
    access = FileAccess(owner=4_000_000_001, group="4000000002")
    assert (access.uid, access.gid) == (4_000_000_001, 4_000_000_002)
    assert (user_name(access.uid), group_name(access.gid)) == ("4000000001", "4000000002")


@pytest.mark.parametrize(
    ("setting", "value", "cure"),
    [
        ("socket_mode", 660, "0o660"),
        ("socket_mode", "668", 'as in "660"$'),
        ("socket_mode", "rw-rw----", 'as in "660"$'),
        ("socket_mode", "", 'as in "660"$'),
        ("socket_mode", -1, "0o660"),
        ("socket_mode", True, "0o660"),
        ("socket_mode", 1.5, "0o660"),
        ("socket_owner", "no-such-user", "no such user"),
        ("socket_owner", "a\0b", "no such user"),
        ("socket_owner", -1, "a number from 0"),
        ("socket_owner", "4294967295", "a number from 0"),
        ("socket_owner", False, "a number from 0"),
        ("socket_owner", 1.5, "a number from 0"),
        ("socket_group", "no-such-group", "no such group"),
        ("socket_group", 2**32, "a number from 0"),
        ("backlog", 0, "1 to 65535"),
        ("backlog", 2**31, "1 to 65535"),
        ("backlog", True, "1 to 65535"),
        ("backlog", "5", "1 to 65535"),
    ],
)
def test_bad_setting(folder: Path, setting: str, value: object, cure: str) -> None:
    with pytest.raises(ConfigurationError, match=cure) as caught:
        bind_socket(f"unix:{folder}/s", **{setting: value})  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{setting}={value!r}")
    assert os.listdir(folder) == []


FORKING = """
import os, sys
from simple_fastcgi.net import bind_socket
bound = bind_socket("unix:" + sys.argv[1])
if os.fork() == 0:
    bound.close()
    os._exit(0)
os.wait()
print(os.path.exists(sys.argv[1]))
bound.close()
print(os.path.exists(sys.argv[1]))
"""

# What it imports late it imports at once: another user may be unable to read the interpreter's folder.
UNPRIVILEGED = """
import fcntl, grp, os, pwd, sys
from simple_fastcgi.net import bind_socket
bind, owner = sys.argv[1:]
privileged = os.geteuid() == 0
if privileged:
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
try:
    bind_socket(bind, socket_owner=owner or None, socket_group=owner or None)
except PermissionError as error:
    line = error.strerror
if privileged:
    os.seteuid(0)
print(line)
"""


def test_forked_child_leaves_the_file(folder: Path) -> None:
    assert run("-c", FORKING, f"{folder}/s").split() == ["True", "False"]


def test_not_permitted_to_give_the_socket_away(folder: Path) -> None:
    folder.chmod(0o777)
    line = run("-c", UNPRIVILEGED, f"unix:{folder}/s", "0")
    assert line.startswith(f"unix:{folder}/s: cannot give the socket to user root and group ")
    assert len(line.splitlines()) == 1
    assert os.listdir(folder) == []


def test_not_permitted_to_create_in_the_folder() -> None:
    line = run("-c", UNPRIVILEGED, "unix:/etc/app.sock", "")
    assert line.startswith("unix:/etc/app.sock: user ")
    assert line.endswith("may not create files in /etc: grant that, or choose another path\n")


@linux
def test_folder_that_cannot_be_read_and_socket_that_cannot_be_asked(folder: Path) -> None:
    path = folder / "s"
    folder.chmod(0o333)
    try:
        with bind_socket(f"unix:{path}", socket_mode=0):
            line = run("-c", UNPRIVILEGED, f"unix:{path}", "")
    finally:
        folder.chmod(0o700)
    assert line == (
        f"unix:{path} belongs to another user, and whether a program serves it is not for this one to know: "
        "remove it, or choose another path\n"
    )
