"""What is made while a program starts is not looked at for garbage."""

from __future__ import annotations

import gc

from simple_fastcgi.serving.garbage import SeldomCollected


def is_young(thing: object) -> bool:
    return any(one is thing for one in gc.get_objects(generation=0))


def test_what_was_made_meanwhile_counts_as_old() -> None:
    usual = gc.get_threshold()
    with SeldomCollected():
        made = [[number] for number in range(1000)]
        assert is_young(made[-1])
    assert not is_young(made[-1])
    assert not is_young(made[0])
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == usual


def test_what_the_program_has_frozen_stays_so() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        assert frozen
        with SeldomCollected():
            pass
        # Some of them may have gone meanwhile, but they are not among the others.
        assert gc.get_freeze_count() > frozen // 2
    finally:
        gc.unfreeze()


def test_what_the_program_says_meanwhile_stands() -> None:
    usual = gc.get_threshold()
    try:
        with SeldomCollected():
            gc.set_threshold(900, 9, 9)
        assert gc.get_threshold() == (900, 9, 9)
    finally:
        gc.set_threshold(*usual)
