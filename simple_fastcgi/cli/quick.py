"""Reading the usual command line without ``argparse``, whose import and work are a tenth of a small program's start."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self


class QuickParser:
    """Takes the same declarations as an ``ArgumentParser``, and reads what leaves nothing to say about it.

    That is: one positional argument, options that are known and written out in full, values that are right. For help,
    mistakes and abbreviations there is argparse.
    """

    def __init__(self) -> None:
        self.positional = ""
        """The positional argument's name."""
        self.options: dict[str, dict[str, Any]] = {}
        """The options as they are written, and how each was declared."""
        self._defaults: dict[str, Any] = {}

    def set_defaults(self, **defaults: Any) -> None:
        """As argparse's."""
        self._defaults |= defaults

    def add_argument_group(self, _title: str) -> Self:
        """Groups are for the help."""
        return self

    def add_argument(self, name: str, **settings: Any) -> None:
        """As argparse's, for a value, which may be left out with ``nargs="?"``, and ``store_true`` and ``append``."""
        if name.startswith("--"):
            self.options[name] = settings
            self._defaults[_attribute(name)] = settings.get("default", False if _is_switch(settings) else None)
        else:
            self.positional = name

    def read(self, words: Iterable[str]) -> SimpleNamespace | None:
        """What argparse would make of `words`; None if it is for argparse to say."""
        found: dict[str, Any] = {}
        rest = deque(words)
        while rest:
            word = rest.popleft()
            if not word.startswith("-"):
                if self.positional in found:
                    return None
                found[self.positional] = word
                continue
            name, written, value = word.partition("=")
            settings = self.options.get(name)
            if settings is None:
                return None
            if _is_switch(settings):
                if written:
                    return None
                found[_attribute(name)] = True
                continue
            if not written and settings.get("nargs") == "?" and (not rest or self._is_option(rest[0])):
                _store(found, _attribute(name), settings["const"], action=settings["action"])
                continue
            if not written:
                value = rest.popleft() if rest else "-"
            if value.startswith("-"):
                return None
            try:
                _store(found, _attribute(name), value, **settings)
            except ValueError:
                return None
        return SimpleNamespace(**(self._defaults | found)) if self.positional in found else None

    def _is_option(self, word: str) -> bool:
        return word.partition("=")[0] in self.options


def _same(value: object) -> object:
    return value


def _store(
    found: dict[str, Any],
    attribute: str,
    value: Any,
    *,
    type: Callable[[Any], object] = _same,
    choices: tuple[str, ...] | None = None,
    action: str = "store",
    **_for_help: object,
) -> None:
    value = type(value)
    if choices is not None and value not in choices:
        raise ValueError(value)
    if action == "append":
        found.setdefault(attribute, []).append(value)
    else:
        found[attribute] = value


def _is_switch(settings: dict[str, Any]) -> bool:
    return settings.get("action") == "store_true"


def _attribute(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")
