"""Socket files, as they are made, replaced, fought for and removed."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.net import ListeningSocket, bind_socket, name_socket
from simple_fastcgi.net.address import UNIX_PATH_LIMIT
from tests.net.support import connect, linux

if TYPE_CHECKING:
    from pathlib import Path


def test_unix_socket_says_path_mode_and_owner(folder: Path) -> None:
    path = folder / "app.sock"
    with bind_socket(f"unix:{path}") as bound:
        facts = path.lstat()
        assert stat.S_IMODE(facts.st_mode) == 0o660
        assert (facts.st_uid, facts.st_gid) == (os.geteuid(), os.getegid())
        assert bound.describe() == f"unix:{path} (mode 0660, owner {path.owner()}:{path.group()})"
        assert name_socket(bound.socket) == f"unix:{path}"
        assert bound.socket.gettimeout() == 0
        assert not bound.socket.get_inheritable()
        assert bound.fileno() == bound.socket.fileno()
        assert os.listdir(folder) == ["app.sock"]
        connect(path)
    assert os.listdir(folder) == []
    assert bound.fileno() == -1
    bound.close()


def test_dead_socket_file_is_replaced(dead: Path) -> None:
    inode = dead.lstat().st_ino
    with bind_socket(f"unix:{dead}"):
        assert dead.lstat().st_ino != inode
        connect(dead)


def test_living_socket_is_never_replaced(folder: Path) -> None:
    path = folder / "app.sock"
    with bind_socket(f"unix:{path}") as first:
        inode = path.lstat().st_ino
        with pytest.raises(OSError, match="busy, another program serves it") as caught:
            bind_socket(f"unix:{path}")
        assert caught.value.errno == errno.EADDRINUSE
        assert str(caught.value.strerror).startswith(f"unix:{path} is busy")
        assert path.lstat().st_ino == inode
        assert os.listdir(folder) == ["app.sock"]
        with first.socket.accept()[0] as probe:
            assert probe.recv(1) == b""


@linux
def test_living_socket_with_a_full_queue_is_never_replaced(folder: Path) -> None:
    path = folder / "app.sock"
    with bind_socket(f"unix:{path}", backlog=1), ExitStack() as stack:
        code = 0
        while code == 0:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            code = client.connect_ex(str(path))
        assert code == errno.EAGAIN
        with pytest.raises(OSError, match="busy"):
            bind_socket(f"unix:{path}")


@linux
def test_living_socket_of_another_type_is_never_replaced(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(folder / "log"))
        with pytest.raises(OSError, match="busy"):
            bind_socket(f"unix:{folder}/log")


def test_of_many_that_start_at_once_one_wins(dead: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simple_fastcgi.net.unix.BIND_PATIENCE", 3600)
    results: list[object] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        try:
            results.append(bind_socket(f"unix:{dead}"))
        except OSError as error:
            results.append(error.errno)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [result for result in results if isinstance(result, ListeningSocket)]
    assert len(winners) == 1
    assert results.count(errno.EADDRINUSE) == 7
    connect(dead)
    winners[0].close()
    assert os.listdir(dead.parent) == []


def test_folder_locked_for_ever_does_not_keep_a_service_from_starting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simple_fastcgi.net.unix.BIND_PATIENCE", 0.02)
    monkeypatch.setattr("simple_fastcgi.net.unix.REMOVE_PATIENCE", 0.02)
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with bind_socket(f"unix:{folder}/s"):
            connect(folder / "s")
        assert os.listdir(folder) == []
    finally:
        os.close(fd)


def test_what_is_no_socket_is_never_removed(folder: Path) -> None:
    (folder / "file").write_text("precious")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("elsewhere")
    os.mkfifo(folder / "fifo")
    kinds = {"file": "a regular file", "folder": "a directory", "link": "a symbolic link", "fifo": "a special file"}
    for name, kind in kinds.items():
        with pytest.raises(FileExistsError, match=f"{name} is {kind}, not a socket"):
            bind_socket(f"unix:{folder}/{name}")
    assert sorted(os.listdir(folder)) == sorted(kinds)


def test_missing_folder_and_file_for_a_folder(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist: create it"):
        bind_socket(f"unix:{folder}/run/s")
    (folder / "file").touch()
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        bind_socket(f"unix:{folder}/file/s")


def test_loop_of_links_for_a_folder(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="choose another path") as caught:
        bind_socket(f"unix:{folder}/loop/s")
    assert caught.value.errno == errno.ELOOP


def test_left_over_temporary_name_is_cleared(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(folder / f".s.{os.getpid()}"))
    with bind_socket(f"unix:{folder}/s"):
        assert os.listdir(folder) == ["s"]
    (folder / f".s.{os.getpid()}").write_text("precious")
    with pytest.raises(OSError, match="choose another path"):
        bind_socket(f"unix:{folder}/s")
    assert os.listdir(folder) == [f".s.{os.getpid()}"]


def test_path_as_long_as_the_system_takes(folder: Path) -> None:
    room = UNIX_PATH_LIMIT - len(str(folder)) - 1
    path = folder / ("x" * room)
    with bind_socket(f"unix:{path}") as bound:
        connect(path)
        assert str(path) in bound.describe()
    assert os.listdir(folder) == []


def test_folder_too_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = folder / ("x" * (UNIX_PATH_LIMIT - len(str(folder)) - 3))
    deep.mkdir()
    with pytest.raises(ConfigurationError, match="choose a shorter folder"):
        bind_socket(f"unix:{deep}/s")
    monkeypatch.chdir(deep)
    with pytest.raises(ConfigurationError, match="choose a shorter folder"):
        bind_socket("unix:app.sock")


def test_relative_path_is_removed_after_a_change_of_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with bind_socket("unix:s") as bound:
        assert bound.describe().startswith(f"unix:{folder}/s ")
        monkeypatch.chdir("/")
    assert os.listdir(folder) == []


def test_close_leaves_a_file_that_is_not_ours(folder: Path) -> None:
    path = folder / "s"
    first = bind_socket(f"unix:{path}")
    path.unlink()
    with bind_socket(f"unix:{path}"):
        first.close()
        connect(path)
    second = bind_socket(f"unix:{path}")
    path.unlink()
    second.close()
    third = bind_socket(f"unix:{path}")
    path.unlink()
    folder.rmdir()
    third.close()
    folder.mkdir()
