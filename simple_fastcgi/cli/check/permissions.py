"""Whether a user may connect to a socket file: by its mode, owner and group, and those of each folder above it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass

from ...errors import ConfigurationError
from ...net.access import group_name, user_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_WRITE = "connecting takes write permission on the socket"
_SEARCH = "reaching the socket takes execute permission on each folder above it"
_ACL = "system.posix_acl_access"


@dataclass(frozen=True)
class User:
    """Somebody who wants to connect."""

    name: str
    uid: int
    gids: frozenset[int]

    @classmethod
    def named(cls, text: str) -> User:
        """The user with this name or number; ConfigurationError if there is none with that name."""
        try:
            entry = pwd.getpwnam(text)
        except (KeyError, ValueError):
            if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32 - 1):
                raise ConfigurationError(
                    f"--web-server-user {text!r}: no such user: nginx, Apache and lighttpd run as www-data in Debian, "
                    "as nginx, apache, http or www elsewhere"
                ) from None
            try:
                entry = pwd.getpwuid(int(text))
            except KeyError:
                return cls(text, int(text), frozenset())
        return cls(entry.pw_name, entry.pw_uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))

    @classmethod
    def of_this_process(cls) -> User:
        """Who runs this."""
        uid = os.geteuid()
        return cls(user_name(uid), uid, frozenset({os.getegid(), *os.getgroups()}))

    def allowed(self, facts: os.stat_result, bit: int) -> bool:
        """Whether the mode of a file with these `facts` grants `bit` (stat.S_IRWXO's) to this user."""
        if self.uid == 0:
            return True
        if facts.st_uid == self.uid:
            return bool(facts.st_mode >> 6 & bit)
        if facts.st_gid in self.gids:
            return bool(facts.st_mode >> 3 & bit)
        return bool(facts.st_mode & bit)


@dataclass(frozen=True)
class Obstacle:
    """What keeps a user from a socket: a path, the reason, the cure; and whether an access control list may differ."""

    path: str
    why: str
    cure: str
    has_acl: bool


def find_obstacles(path: str, user: User) -> Iterator[Obstacle]:
    """What keeps `user` from connecting to the socket file `path`, from the outermost folder on.

    PermissionError if this process cannot see so far itself, FileNotFoundError if there is no such file.
    """
    for folder in _folders(path):
        facts = os.stat(folder)
        if not user.allowed(facts, stat.S_IXOTH):
            yield Obstacle(
                folder, f"{_seen(folder, facts)}; {_SEARCH}", _folder_cure(folder, facts, user), _has_acl(folder)
            )
    facts = os.stat(path)
    if not user.allowed(facts, stat.S_IWOTH):
        yield Obstacle(path, f"{_seen(path, facts)}; {_READ_WRITE}", _socket_cure(path, facts, user), _has_acl(path))


def _folders(path: str) -> list[str]:
    """All folders that are gone through, by the name given and where it leads to, outermost first."""
    found: dict[str, None] = {}
    for start in (os.path.abspath(path), os.path.realpath(path)):
        above: list[str] = []
        folder = os.path.dirname(start)
        while folder not in above:
            above.append(folder)
            folder = os.path.dirname(folder)
        found.update(dict.fromkeys(reversed(above)))
    return list(found)


def _seen(path: str, facts: os.stat_result) -> str:
    owner = f"{user_name(facts.st_uid)}:{group_name(facts.st_gid)}"
    return f"{path} has mode {stat.S_IMODE(facts.st_mode):04o} and belongs to {owner}"


def _socket_cure(path: str, facts: os.stat_result, user: User) -> str:
    group = _group_of(user)
    if facts.st_uid == user.uid:
        return f"chmod u+rw {path}; for good: --socket-mode 660"
    if facts.st_gid in user.gids:
        return f"chmod g+rw {path}; for good: --socket-mode 660"
    if group is None:
        return f"chown {user.name} {path}; for good: --socket-owner {user.name}"
    return f"chgrp {group} {path} && chmod g+rw {path}; for good: serve with --socket-group {group}"


def _folder_cure(folder: str, facts: os.stat_result, user: User) -> str:
    if facts.st_uid == user.uid:
        return f"chmod u+x {folder}"
    if facts.st_gid in user.gids:
        return f"chmod g+x {folder}"
    return (
        f"put the socket into a folder of its own below /run (systemd: RuntimeDirectory=), which is better than: "
        f"chmod o+x {folder}"
    )


def _group_of(user: User) -> str | None:
    """The user's main group, by its name; None if it has none."""
    try:
        return grp.getgrgid(pwd.getpwuid(user.uid).pw_gid).gr_name
    except KeyError:
        return None


def _has_acl(path: str) -> bool:
    try:
        return bool(os.getxattr(path, _ACL))
    except (OSError, AttributeError):
        return False
