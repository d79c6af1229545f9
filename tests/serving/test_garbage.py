"""What is made while a program starts is not looked at for garbage."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.serving.garbage import SeldomCollected

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def as_at_the_start() -> Iterator[None]:
    """Whatever the test runner, or another test, has said about garbage."""
    before = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def is_young(thing: object) -> bool:
    return any(one is thing for one in gc.get_objects(generation=0))


def test_what_was_made_meanwhile_counts_as_old() -> None:
    with SeldomCollected():
        made = [[number] for number in range(1000)]
        assert is_young(made[-1])
    assert not is_young(made[-1])
    assert not is_young(made[0])
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == (700, 10, 10)


def test_what_the_program_has_frozen_stays_so() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with SeldomCollected():
        pass
    # Some of them may have gone meanwhile, but they are not among the others.
    assert gc.get_freeze_count() > frozen // 2 > 0


def test_what_the_program_says_meanwhile_stands() -> None:
    with SeldomCollected():
        gc.set_threshold(900, 9, 9)
    assert gc.get_threshold() == (900, 9, 9)


def test_only_the_block_that_has_changed_something_brings_it_back() -> None:
    """Blocks of several threads overlap: the second one must not bring back what the first one says meanwhile."""
    with SeldomCollected():
        with SeldomCollected():
            made = [[number] for number in range(1000)]
        assert is_young(made[-1])
    assert not is_young(made[-1])
    assert gc.get_threshold() == (700, 10, 10)
