"""From samples to figures: medians, spread, ratios, and the order of turns."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


def interleaved(contestants: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """(round, contestant) in the order A B C, B C A, C A B, ...

    All see the same weather, and nobody always follows the same one.
    """
    for number in range(rounds):
        shift = number % len(contestants) if contestants else 0
        for contestant in [*contestants[shift:], *contestants[:shift]]:
            yield number, contestant


def median(values: Sequence[float]) -> float:
    """The middle one; ValueError when there is none."""
    if not values:
        raise ValueError("no values")
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """How far apart the lowest and the highest are, as a share of the median; 0 for a single value."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of all do not exceed; ValueError when there is none."""
    if not values:
        raise ValueError("no values")
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(rank, 1) - 1]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """By how much y grows with x, by least squares; ValueError for fewer than two different x."""
    middle_x = statistics.fmean(x for x, _ in points) if points else 0.0
    middle_y = statistics.fmean(y for _, y in points) if points else 0.0
    width = sum((x - middle_x) ** 2 for x, _ in points)
    if not width:
        raise ValueError("a slope needs two different points")
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / width
