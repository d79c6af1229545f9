"""A failure whose traceback is long: two functions, for Python shortens the traceback of one that calls itself."""

from __future__ import annotations


def descend(depth: int) -> None:
    if depth == 0:
        raise RuntimeError("this is the bottom of a deep recursion")
    go_on(depth)


def go_on(depth: int) -> None:
    descend(depth - 1)
