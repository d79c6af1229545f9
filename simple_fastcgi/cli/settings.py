"""Settings of ``serve`` that do not stand on the command line: a TOML file, and the environment.

They become options around those that were written, so that each means what it means there, and the later wins:
file, environment, command line.
"""

from __future__ import annotations

import os
from collections import deque

from ..errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Literal

    Options = Mapping[str, Mapping[str, Any]]
    Given = Literal["socket", "request"] | None
    Found = dict[str, tuple[int, str, object]]
    """How strong it is, where it stands and the value, of each setting by its name."""

AUTO = "auto"
"""The number of workers or threads that the machine tells, see :mod:`.auto`."""
PREFIX = "SIMPLE_FASTCGI_"
"""How the variables of the environment begin; the rest is the option's name, ``--max-params`` as ``MAX_PARAMS``."""
PROJECT_FILE = "pyproject.toml"
"""Read from the current directory, or that of ``--chdir``, if it has a table [tool.simple-fastcgi] and no other file is
named."""
_TABLES = ("simple-fastcgi", "simple_fastcgi")
"""In [tool]; a hyphen is as good as an underscore."""
_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")


_MODE = "socket-mode"
_OF_SOCKET_FILE = (_MODE, "socket-owner", "socket-group")
_FILE, _ENVIRONMENT, _COMMAND_LINE = range(3)
"""How strong what they say is."""
_OF_PROCESSES = ("workers", "max-requests", "max-requests-jitter")
"""What is for a program that may have more than one process, or request."""


def number_or_auto(text: str) -> int | str:
    """A whole number, or "auto", as an option's value; ValueError for anything else."""
    return AUTO if text == AUTO else int(text)


def with_settings(
    words: Sequence[str],
    options: Options,
    positional: str,
    environ: Mapping[str, str] = os.environ,
    *,
    given: Given = None,
) -> list[str]:
    """`words` of a command line, with what else is set around them.

    `options` are those of the command, each with the keywords of its declaration; `positional` is its argument's name,
    which is a setting, too. A program that is `given` a socket by whoever starts it, or by CGI a request, listens
    elsewhere only if the command line says so: processes that share a socket would fight for the one address of a file.
    With a request it is one process, whatever the file wants for other ways to start it. Who may connect is passed over
    where the address is of another kind and comes from something stronger.

    Help asks for no setting. Raises
    :class:`~simple_fastcgi.errors.ConfigurationError` for a setting that there is not, one given twice, a value that
    cannot be it, and a file that cannot be read.
    """
    if "-h" in words or "--help" in words:
        return list(words)
    written, has_positional = _look_at(words, options)
    found: Found = {}
    # Who sets a variable to nothing wants none.
    file = written.get("--config", environ.get(f"{PREFIX}CONFIG") or None)
    folder = written.get("--chdir", environ.get(f"{PREFIX}CHDIR", ""))
    for place, settings in ((_FILE, _of_file(file, folder)), (_ENVIRONMENT, _of_environment(environ))):
        for source, name, value in settings:
            if name != "config":
                _check_known(source, name, options, positional)
                found[name] = place, source, value
    useless = _useless(found, written, given)
    front: list[str] = []
    behind: list[str] = []
    argument: list[str] = []
    for name, (_, source, value) in found.items():
        if name == positional:
            argument = [] if has_positional else [_spec(source, value)]
        elif f"--{name}" not in written:
            option = _as_option(source, name, value, options[f"--{name}"])
            if _may_stand_alone(options[f"--{name}"]):
                # Nothing of the command line may be taken for its value.
                behind += option
            elif name not in useless:
                front += option
    end = words.index("--") if "--" in words else len(words)
    return [*argument, *front, *words[:end], *behind, *words[end:]]


def _useless(found: Found, written: Mapping[str, str], given: Given) -> set[str]:
    """Which of the settings that were `found` are for another way to start the program than this one."""
    if given == "request" and "--bind" not in written:
        return {"bind", "status-bind", *_OF_SOCKET_FILE, *_OF_PROCESSES}
    told: dict[str, object] = {name: value for name, (*_, value) in found.items()}
    told |= {option.removeprefix("--"): value for option, value in written.items()}
    of_status = _kind(told.get("status-bind"))
    # The status's own socket file has the same ones.
    of_socket_file = set() if of_status == "unix" else set(_OF_SOCKET_FILE)
    if given == "socket" and "--bind" not in written:
        return {"bind", *of_socket_file}
    kind = _kind(told.get("bind"))
    useless = of_socket_file if kind in ("tcp", "abstract", "fd") else set()
    if kind in ("unix", "abstract") and of_status != "tcp":
        useless.add("allow-from")
    strength = _COMMAND_LINE if "--bind" in written else found["bind"][0] if "bind" in found else _FILE
    return {name for name, (place, *_) in found.items() if name in useless and place < strength}


def _kind(bind: object) -> str:
    """Of an address; empty for what is none."""
    from ..net.address import parse_bind

    try:
        return "" if bind is None else parse_bind(str(bind)).kind
    except ConfigurationError:
        return ""


def _look_at(words: Sequence[str], options: Options) -> tuple[dict[str, str], bool]:
    """The options in `words`, with the last value of each, and whether there is a positional argument."""
    written: dict[str, str] = {}
    has_positional = False
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if not word.startswith("-"):
            has_positional = True
            continue
        name, has_value, value = word.partition("=")
        # argparse takes abbreviations.
        alike = [name] if name in options else [option for option in options if option.startswith(name)]
        if len(alike) == 1:
            settings = options[alike[0]]
            stands_alone = _may_stand_alone(settings) and (not rest or rest[0].startswith("-"))
            if not (has_value or _is_switch(settings) or stands_alone):
                value = rest.popleft() if rest else ""
            written[alike[0]] = value
    return written, has_positional


def _of_file(path: str | None, folder: str) -> Iterator[tuple[str, str, object]]:
    """Where from, the name and the value of each setting in the file at `path`, or else in the project's.

    Both paths count from `folder`.
    """
    named = path is not None
    if path == "":
        raise ConfigurationError("--config '': it names no file: give one, or leave the option out")
    path = path or PROJECT_FILE
    raw = _read(path, folder, needed=named)
    if raw is None or (not named and not any(table.encode() in raw for table in _TABLES)):
        # Nearly all projects' say nothing, and need not be understood.
        return
    import tomllib

    try:
        document: dict[str, Any] = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    tool = document.get("tool")
    in_tool = [name for name in _TABLES if name in tool] if isinstance(tool, dict) else []
    if len(in_tool) > 1:
        raise ConfigurationError(f"{path}: [tool.{in_tool[0]}] and [tool.{in_tool[1]}] are one table: drop one")
    if in_tool:
        table: object = document["tool"][in_tool[0]]
        where = f"{path}, [tool.{in_tool[0]}]"
    elif named:
        # A file of its own needs no table.
        table, where = document, path
    else:
        return
    if not isinstance(table, dict):
        raise ConfigurationError(f"{where}: give a table of settings")
    seen: set[str] = set()
    for key, value in table.items():
        name = key.replace("_", "-")
        if name in seen:
            raise ConfigurationError(f"{where}: {key} is there twice, with a hyphen and with an underscore: drop one")
        seen.add(name)
        if name == "config":
            raise ConfigurationError(f"{where}: {key}: a file of settings cannot name another one")
        yield f"{where}: {key}", name, value


def _read(path: str, folder: str, *, needed: bool) -> bytes | None:
    """What the file has; None if it is not `needed` and cannot be there, as far as this user sees."""
    place = os.path.join(folder, path)
    try:
        with open(place, "rb") as file:
            return file.read()
    except OSError as error:
        if not needed and isinstance(error, FileNotFoundError | NotADirectoryError):
            return None
        if isinstance(error, PermissionError) and _is_out_of_sight(place):
            if folder:
                raise not_entered(folder, error) from None
            if not needed:
                # The application may well be found elsewhere.
                return None
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def _is_out_of_sight(path: str) -> bool:
    """Whether it is a folder that is closed, and not the file, which may not even be there."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:  # pragma: no cover - it has changed meanwhile
        return False
    return False


def not_entered(folder: str, error: OSError) -> ConfigurationError:
    """What is told of a ``--chdir`` that cannot be."""
    return ConfigurationError(
        f"--chdir {folder!r}: {error.strerror}: give a directory that the user who runs this may enter"
    )


def _of_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    for variable, value in environ.items():
        if variable.startswith(PREFIX):
            yield f"the environment's {variable}", variable.removeprefix(PREFIX).lower().replace("_", "-"), value


def _check_known(source: str, name: str, options: Options, positional: str) -> None:
    if name == positional or f"--{name}" in options:
        return
    from difflib import get_close_matches

    names = [positional, *(option.removeprefix("--") for option in options)]
    alike = get_close_matches(name, names, 1)
    cure = f"did you mean {alike[0]}?" if alike else "simple-fastcgi serve --help lists them, without their --"
    raise ConfigurationError(f"{source}: there is no such setting; {cure}")


def _as_option(source: str, name: str, value: object, settings: Mapping[str, Any]) -> list[str]:
    """The words that say on the command line what `source` says."""
    if _is_switch(settings):
        return [f"--{name}"] if _truth(source, value) else []
    values = value if isinstance(value, list) and settings.get("action") == "append" else [value]
    words = []
    for each in values:
        if _may_stand_alone(settings) and _is_truth(each):
            words += [f"--{name}"] if _truth(source, each) else []
            continue
        if name == _MODE and not isinstance(each, str):
            # 0o660, as TOML writes it, is 432 by now: read as octal digits it would let everybody in.
            raise ConfigurationError(f'{source}: give it in quotes: {_MODE} = "660"')
        text = _text(source, each)
        _check_value(source, text, settings)
        words.append(f"--{name}={text}")
    return words


def _check_value(source: str, text: str, settings: Mapping[str, Any]) -> None:
    choices = settings.get("choices")
    if choices is not None and text not in choices:
        raise ConfigurationError(f"{source}: {text!r}: give one of {', '.join(choices)}")
    kind = settings.get("type", str)
    try:
        kind(text)
    except ValueError:
        what = {int: "a whole number", number_or_auto: "a whole number, or auto"}.get(kind, "a number")
        raise ConfigurationError(f"{source}: {text!r}: give {what}") from None


def _is_truth(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in _YES + _NO)


def _truth(source: str, value: object) -> bool:
    if _is_truth(value):
        return str(value).lower() in _YES
    raise ConfigurationError(f"{source}: {value!r}: give true or false")


def _spec(source: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f'{source}: {value!r}: give MODULE:ATTR in quotes, for example "app:app"')
    return value


def _text(source: str, value: object) -> str:
    """`value` as it is written on the command line."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigurationError(f"{source}: {value!r}: give a text or a number, as on the command line")
    return str(value)


def _is_switch(settings: Mapping[str, Any]) -> bool:
    return settings.get("action") == "store_true"


def _may_stand_alone(settings: Mapping[str, Any]) -> bool:
    """Whether its value may be left out."""
    return settings.get("nargs") == "?"
