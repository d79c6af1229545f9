"""Who may use a socket file: mode, user and group, by name or number."""

from __future__ import annotations

from ..errors import ConfigurationError

DEFAULT_MODE = 0o660
"""Owner and group may connect: the usual bargain between an application and its web server."""

_LARGEST_ID = 2**32 - 2


class FileAccess:
    """Who may connect to a socket file.

    ``mode`` (int, or str of octal digits, default 0o660)
        Permission bits, set as they are: the umask has no say.
    ``owner``, ``group`` (name or number, default: the process's own)
        A str of digits is a number.

    Raises :class:`~simple_fastcgi.errors.ConfigurationError` for a mode out of range and for a user or group that
    does not exist.
    """

    __slots__ = ("gid", "mode", "uid")

    def __init__(
        self, mode: int | str | None = None, owner: int | str | None = None, group: int | str | None = None
    ) -> None:
        self.mode = DEFAULT_MODE if mode is None else _parse_mode(mode)
        # chown() takes -1 for "leave it".
        self.uid = -1 if owner is None else _user_id(owner)
        self.gid = -1 if group is None else _group_id(group)


def user_name(uid: int) -> str:
    """The name of a user (number), or the number itself if it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a group (number), or the number itself if it has none."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _parse_mode(mode: object) -> int:
    if isinstance(mode, str):
        digits = mode.removeprefix("0o")
        value = int(digits, 8) if digits.isascii() and digits.isdecimal() and not set(digits) & {"8", "9"} else -1
    else:
        value = mode if isinstance(mode, int) and not isinstance(mode, bool) else -1
    if not 0 <= value <= 0o777:
        # The decimal 660 is the usual slip.
        example = '"660"' if isinstance(mode, str) else '"660" or 0o660'
        raise ConfigurationError(f"socket_mode={mode!r}: give octal permission bits up to 777, as in {example}")
    return value


def _user_id(owner: object) -> int:
    import pwd

    number = _numeric_id(owner, "socket_owner")
    if number is not None:
        return number
    try:
        return pwd.getpwnam(str(owner)).pw_uid
    except (KeyError, ValueError):
        raise ConfigurationError(f"socket_owner={owner!r}: no such user: give the name or number of one") from None


def _group_id(group: object) -> int:
    import grp

    number = _numeric_id(group, "socket_group")
    if number is not None:
        return number
    try:
        return grp.getgrnam(str(group)).gr_gid
    except (KeyError, ValueError):
        raise ConfigurationError(f"socket_group={group!r}: no such group: give the name or number of one") from None


def _numeric_id(given: object, setting: str) -> int | None:
    if isinstance(given, str) and not (given.isascii() and given.isdecimal() and len(given) <= 10):
        return None
    number = -1 if isinstance(given, bool) or not isinstance(given, int | str) else int(given)
    if not 0 <= number <= _LARGEST_ID:
        raise ConfigurationError(f"{setting}={given!r}: give a name, or a number from 0 to {_LARGEST_ID}")
    return number
