"""Observers are told, and what fails in one of them is their own affair: no request is the worse for it."""

from __future__ import annotations

from ..log import logger
from .info import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .info import RequestInfo

    Method = Callable[[RequestInfo], object]


class Telling:
    """Tells each of `observers` of one step of a request, which is the name of their method.

    One that raises is logged, the first time; the others hear of it, and it hears of what comes.
    """

    __slots__ = ("_methods", "_told")

    def __init__(self, observers: Iterable[Observer], step: str) -> None:
        nothing = getattr(Observer, step)
        methods: list[Method] = [getattr(observer, step) for observer in observers]
        # To call for each request what does nothing is a part of what the access log costs.
        self._methods = [method for method in methods if getattr(method, "__func__", None) is not nothing]
        # Whose failures are in the log.
        self._told: list[Method] = []

    def __call__(self, info: RequestInfo) -> None:
        for method in self._methods:
            try:
                method(info)
            except Exception:
                self._log_failure(method)

    def _log_failure(self, method: Method) -> None:
        if method not in self._told:
            self._told.append(method)
            name = getattr(method, "__qualname__", repr(method))
            logger().exception("the observer %s failed; requests are served all the same (told once)", name)
