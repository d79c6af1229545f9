"""Values on the command line that several commands have, as types for ``argparse``."""

from __future__ import annotations

from argparse import ArgumentTypeError


def seconds(text: str, largest: int = 3600) -> float:
    """`text` as seconds above 0, up to `largest`; ArgumentTypeError if it is something else."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= largest:
        raise ArgumentTypeError(f"{text!r}: give seconds above 0, up to {largest}")
    return found
