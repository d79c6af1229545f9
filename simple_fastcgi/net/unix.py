"""Socket files: how one is made, and removed, without ever harming another program's."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time

from ..errors import ConfigurationError
from .access import group_name, user_name
from .address import UNIX_PATH_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from .access import FileAccess

BIND_PATIENCE = 5.0
"""Seconds to wait, before binding, for another program that is binding in the same folder."""

REMOVE_PATIENCE = 0.5
"""The same before a socket file is removed: nobody wants to wait at the end."""


class SocketFile:
    """The file of a listening unix socket: where it is, and which one it is.

    ``path`` (str)
        Absolute, so that it stays right after a ``chdir()``.
    Raises :class:`OSError` if there is no such file.
    """

    __slots__ = ("_facts", "_pid", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._facts = os.lstat(path)
        self._pid = os.getpid()

    def describe(self) -> str:
        """Path, mode and owner as the file had them: ``unix:/run/app.sock (mode 0660, owner app:www-data)``."""
        owner = f"{user_name(self._facts.st_uid)}:{group_name(self._facts.st_gid)}"
        return f"unix:{self.path} (mode {stat.S_IMODE(self._facts.st_mode):04o}, owner {owner})"

    def remove(self) -> None:
        """Removes the file if it is still the one that was made here; a forked child removes nothing. Never raises.

        To be called while the socket is still open: an open socket keeps its inode, so the number cannot have come
        into other hands.
        """
        if os.getpid() != self._pid:
            return
        try:
            with _FolderLock(os.path.dirname(self.path), REMOVE_PATIENCE):
                if os.path.samestat(os.lstat(self.path), self._facts):
                    os.unlink(self.path)
        except OSError:
            # At the end of a service nobody can act on it, and the next start replaces a dead file.
            pass


def listen_unix(path: str, backlog: int, access: FileAccess) -> tuple[socket.socket, SocketFile]:
    """A listening socket at ``path`` (str), and its file.

    A dead socket file there is replaced; a living one, or anything that is not a socket, never is. (BSD and macOS
    show a living one whose queue is full as if it were dead; Linux tells the difference.) The file appears
    under its name in one step, with its final mode and owner and already listening: no one ever finds it otherwise.

    Raises :class:`OSError`, whose ``strerror`` is one clear line, if the path is taken, the folder is missing or
    forbidden, or the owner cannot be set; :class:`~simple_fastcgi.errors.ConfigurationError` if the path is too long.
    """
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    temporary = _temporary_name(path)
    try:
        with _FolderLock(folder, BIND_PATIENCE):
            _refuse_taken(path)
            _remove_dead(temporary)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.bind(temporary)
                _grant(temporary, path, access)
                sock.listen(backlog)
                os.rename(temporary, path)
                return sock, SocketFile(path)
            except BaseException:
                sock.close()
                _remove_dead(temporary)
                raise
    except OSError as error:
        if error.strerror and error.strerror.startswith("unix:"):
            raise
        raise _explained(error, path, folder) from error


class _FolderLock:
    """Keeps two programs that start at once from taking each other's socket for a dead one.

    The folder itself is locked, so no lock file is left behind. A folder that cannot be read or locked, or that
    someone else keeps locked, is used without: anybody may lock ``/tmp``, and must not keep a service from starting.
    """

    __slots__ = ("_fd", "_folder", "_patience")

    def __init__(self, folder: str, patience: float) -> None:
        self._folder = folder
        self._patience = patience
        self._fd = -1

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            return
        import fcntl

        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
            except OSError:  # pragma: no cover - a file system without locks
                pass
            return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def public_path(path: str) -> str:
    """The name under which a socket file can be found, from the one that it was bound to.

    The kernel goes on giving the temporary name that :func:`listen_unix` binds first.
    """
    folder, name = os.path.split(path)
    parts = name.split(".")
    bound_here = len(parts) >= 3 and not parts[0] and parts[-1].isdecimal()
    return os.path.join(folder, ".".join(parts[1:-1])) if bound_here else path


def _temporary_name(path: str) -> str:
    """A name in the same folder; the readable one if it fits, since tools such as ``ss`` go on showing it."""
    folder, name = os.path.split(path)
    for candidate in (f".{name}.{os.getpid()}", f".{os.getpid()}"):
        temporary = os.path.join(folder, candidate)
        if max(len(os.fsencode(temporary)), len(os.fsencode(path))) <= UNIX_PATH_LIMIT:
            return temporary
    size = len(os.fsencode(path))
    raise ConfigurationError(
        f"bind {'unix:' + path!r}: this path has {size} bytes, a socket's may have {UNIX_PATH_LIMIT} "
        "and its folder must leave room for 8 more: choose a shorter folder"
    )


def _refuse_taken(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISDIR, "a directory"), (stat.S_ISREG, "a regular file"))
        what = next((name for test, name in kinds if test(mode)), "a special file")
        raise FileExistsError(errno.EEXIST, f"unix:{path} is {what}, not a socket: remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full queue must answer at once too.
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code in (errno.EACCES, errno.EPERM):
        raise PermissionError(
            code,
            f"unix:{path} belongs to another user, and whether a program serves it is not for this one to know: "
            "remove it, or choose another path",
        )
    if code not in (errno.ECONNREFUSED, errno.ENOENT):
        raise OSError(
            errno.EADDRINUSE,
            f"unix:{path} is busy, another program serves it: stop that program, or choose another path",
        )


def _remove_dead(temporary: str) -> None:
    """Removes what a run of the same process number left behind when it was killed; in containers that is the rule."""
    try:
        if stat.S_ISSOCK(os.lstat(temporary).st_mode):
            os.unlink(temporary)
    except FileNotFoundError:
        pass


def _grant(temporary: str, path: str, access: FileAccess) -> None:
    # The mode first: after the change of owner it might be no longer ours to set.
    os.chmod(temporary, access.mode)
    if access.uid == access.gid == -1:
        return
    try:
        os.chown(temporary, access.uid, access.gid)
    except OSError as error:
        wanted = " and ".join(
            part
            for part in (
                f"user {user_name(access.uid)}" if access.uid >= 0 else "",
                f"group {group_name(access.gid)}" if access.gid >= 0 else "",
            )
            if part
        )
        raise OSError(
            error.errno,
            f"unix:{path}: cannot give the socket to {wanted} ({error.strerror}): only root may give files to other "
            "users, and only a member to another group",
        ) from error


def _explained(error: OSError, path: str, folder: str) -> OSError:
    if isinstance(error, FileNotFoundError) and os.path.isdir(folder):
        # As /proc, where nobody makes files.
        why = f"no socket can be made in {folder}: choose another path"
    elif isinstance(error, FileNotFoundError):
        why = f"its folder {folder} does not exist: create it (systemd: RuntimeDirectory=), or choose another path"
    elif isinstance(error, NotADirectoryError):
        why = f"{folder} is not a folder: choose another path"
    elif isinstance(error, PermissionError):
        why = f"user {user_name(os.geteuid())} may not create files in {folder}: grant that, or choose another path"
    else:
        why = f"{error.strerror or error}: choose another path"
    return OSError(error.errno or errno.EIO, f"unix:{path}: {why}")
