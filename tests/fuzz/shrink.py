"""The smallest case that still fails, and how it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.case import Act, Case, merged
from tests.fuzz.mutation import split_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fails = Callable[[Case], object]


def failure(check: Callable[[Case], object], case: Case) -> Exception | None:
    """What `check` raises for `case`."""
    try:
        check(case)
    except Exception as error:
        return error
    return None


def shrink(case: Case, fails: Fails) -> Case:
    """A smaller case for which `fails` is still true: without steps, records and bytes that do not matter."""
    while True:
        before = case
        for apart in (_apart(case), _apart(case._replace(steps=merged(case.steps)))):
            smaller = filter(fails, [case._replace(steps=tuple(apart))])
            while (one := next(smaller, None)) is not None:
                case = one
                smaller = filter(fails, _smaller(case))
        if case == before:
            joined = case._replace(steps=merged(case.steps))
            return joined if fails(joined) else case


def _apart(case: Case) -> Iterator[bytes | Act]:
    """The steps with a record in each."""
    for step in case.steps:
        if isinstance(step, bytes):
            yield from split_records(step)
        else:
            yield step


def _smaller(case: Case) -> Iterator[Case]:
    steps = case.steps
    size = len(steps)
    while size:
        for start in range(0, len(steps), size):
            yield case._replace(steps=steps[:start] + steps[start + size :])
        size //= 2
    for sizes in ((100,), (1,)):
        if len(case.sizes) > 1:
            yield case._replace(sizes=sizes)
    for index, step in enumerate(steps):
        if isinstance(step, bytes):
            for shorter in _shorter(step):
                yield case._replace(steps=(*steps[:index], shorter, *steps[index + 1 :]))


def _shorter(one: bytes) -> Iterator[bytes]:
    """Records without one of them; a record without its padding, or without half of its content."""
    records = split_records(one)
    if len(records) > 1:
        for index in range(len(records)):
            yield b"".join(records[:index] + records[index + 1 :])
        return
    if len(one) < 8:
        return
    content, padding = one[8 : 8 + int.from_bytes(one[4:6], "big")], one[6]
    if padding:
        yield one[:6] + b"\0" + one[7:8] + content
    if len(content) > 1:
        half = len(content) // 2
        yield one[:4] + half.to_bytes(2, "big") + one[6:8] + content[:half]


def told(check: Callable[[Case], object], case: Case, error: Exception, seed: str) -> str:
    """How a failing case is reported: where it comes from, and source to make a regression test of."""
    small = shrink(case, lambda one: type(failure(check, one)) is type(error))
    return (
        f"{seed}: {error!r}\n"
        f"This smaller case raises {failure(check, small)!r}; give it a name in tests/fuzz/regressions.py:\n\n{small}"
    )
