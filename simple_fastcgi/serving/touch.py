"""Files that are watched cheaply: whether one of them has been touched."""

from __future__ import annotations

import os
from time import monotonic

from ..errors import ConfigurationError
from .origin import file_of, script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Any, Self

    Facts = tuple[float, int]  # the time of modification, and the size
    FilesToTouch = bool | str | os.PathLike[str] | Iterable[bool | str | os.PathLike[str]]
    ReloadOnTouch = FilesToTouch | None

LOOK_SECONDS = 1.0
"""How long the files are not looked at again."""

RESTART_FILES = ("restart.txt", os.path.join("tmp", "restart.txt"))
"""What users of shared hosts know as the files to touch."""


class TouchedFiles:
    """Whether one of `paths` has been touched since this was made.

    That is: its time of modification or its size is another one, older ones included, or it has been made or removed.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._facts: dict[str, Facts | None] = {}
        self._next_look = monotonic() + LOOK_SECONDS
        self._touched: str | None = None
        self.add(paths)

    def add(self, paths: Iterable[str], imported: Mapping[str, Facts] | None = None) -> None:
        """Watch these too, from now on, or since they were `imported`; those that are watched stay as they are."""
        for path in paths:
            if path not in self._facts:
                self._facts[path] = (imported or {}).get(path) or _facts(path)

    def look(self) -> str | None:
        """One that has been touched. To ask often costs nothing: at most once a second it is looked at them."""
        if self._touched is None and monotonic() >= self._next_look:
            self._touched = next((path for path, facts in self._facts.items() if _facts(path) != facts), None)
            self._next_look = monotonic() + LOOK_SECONDS
        return self._touched


class RecordedImports:
    """While entered, takes down in `facts` which files modules are read from, and what those were just before.

    A file that changes while the program starts, a moment after it was read, would otherwise never be missed.
    """

    def __init__(self, facts: dict[str, Facts]) -> None:
        self.facts = facts

    def __enter__(self) -> Self:
        from importlib.machinery import SourceFileLoader

        self._path_stats = path_stats = SourceFileLoader.path_stats

        def record(loader: SourceFileLoader, path: str) -> Mapping[str, Any]:
            # What the import system itself asks for before it reads, to know whether its compiled file is good.
            stats = path_stats(loader, path)
            self.facts[path] = (stats["mtime"], stats["size"])
            return stats

        SourceFileLoader.path_stats = record  # type: ignore[assignment, method-assign]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from importlib.machinery import SourceFileLoader

        SourceFileLoader.path_stats = self._path_stats  # type: ignore[method-assign]


def files_to_touch(setting: FilesToTouch, folders: Iterable[str]) -> list[str]:
    """The files that `setting` (``reload_on_touch``) means.

    True means the program's script, and :data:`RESTART_FILES` beside it and in `folders`.
    Raises ConfigurationError for what is no path.
    """
    files: dict[str, None] = {}
    try:
        for one in [setting] if isinstance(setting, bool | str | os.PathLike) else setting:
            if one is True:
                files |= dict.fromkeys(_usual_files(folders))
            else:
                files[_absolute(one)] = None
    except TypeError as error:
        raise ConfigurationError(f"reload_on_touch={setting!r}: give True, a path or a list of paths") from error
    return list(files)


def with_file_of(app: object, setting: FilesToTouch) -> FilesToTouch:
    """`setting`, where True is also the file that the application `app` is written in, as far as that is known."""
    given = [setting] if isinstance(setting, bool) else setting
    if isinstance(given, list | tuple) and any(one is True for one in given) and (file := file_of(app)) is not None:
        return [*given, file]
    return setting


def _usual_files(folders: Iterable[str]) -> list[str]:
    files = [_absolute(file)] if (file := script()) else []
    places = [os.path.dirname(file) for file in files] + [_absolute(folder or ".") for folder in folders]
    return files + [os.path.join(place, name) for place in places for name in RESTART_FILES]


def _absolute(path: bool | str | os.PathLike[str]) -> str:
    name = os.fspath(path)  # type: ignore[arg-type]
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigurationError(f"reload_on_touch: {path!r} is no path: name a file, for example restart.txt")
    return os.path.abspath(name)


def _facts(path: str) -> Facts | None:
    try:
        facts = os.stat(path)
    except OSError:
        # It is not there, or not for us: all the same until that changes.
        return None
    return facts.st_mtime, facts.st_size
