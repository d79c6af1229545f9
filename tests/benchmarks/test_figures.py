from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import interleaved, median, percentile, slope, spread

pytestmark = pytest.mark.once

POSITIVE = st.floats(min_value=1e-6, max_value=1e6)
VALUES = st.lists(POSITIVE, min_size=1, max_size=30)


@given(VALUES)
def test_the_median_has_as_many_values_above_as_below(values: list[float]) -> None:
    middle = median(values)
    assert sum(value < middle for value in values) <= len(values) / 2
    assert sum(value > middle for value in values) <= len(values) / 2
    assert min(values) <= middle <= max(values)


@given(VALUES, POSITIVE)
def test_the_spread_knows_no_unit(values: list[float], factor: float) -> None:
    assert spread(values) >= 0
    assert math.isclose(spread(values), spread([value * factor for value in values]), rel_tol=1e-6, abs_tol=1e-9)


def test_the_spread_of_one_value_and_of_zeros() -> None:
    assert spread([3.0]) == 0
    assert spread([0.0, 0.0]) == 0
    assert spread([9.0, 10.0, 12.0]) == pytest.approx(0.3)


@given(VALUES, st.integers(min_value=1, max_value=100))
def test_a_percentile_is_the_smallest_value_that_covers_so_many(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    enough = Fraction(len(values) * percent, 100)
    assert sum(value <= found for value in values) >= enough
    assert sum(value < found for value in values) < enough


@given(st.floats(-100, 100), st.floats(-100, 100), st.lists(st.integers(0, 1000), min_size=2, unique=True, max_size=20))
def test_the_slope_of_points_on_a_line(gradient: float, offset: float, places: list[int]) -> None:
    points = [(float(x), offset + gradient * x) for x in places]
    assert slope(points) == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (1.0, 3.0)]], ids=["none", "one", "one x"])
def test_no_slope_without_two_places(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="two different points"):
        slope(points)


@pytest.mark.parametrize("figure", [median, spread])
def test_no_figure_without_values(figure: object) -> None:
    assert callable(figure)
    with pytest.raises(ValueError, match="no values"):
        figure([])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@given(st.lists(st.integers(), unique=True, max_size=8), st.integers(0, 10))
def test_rounds_are_interleaved(contestants: list[int], rounds: int) -> None:
    turns = list(interleaved(contestants, rounds))
    assert Counter(turns) == Counter((number, one) for number in range(rounds) for one in contestants)
    assert [number for number, _ in turns] == sorted(number for number, _ in turns)


def test_nobody_always_comes_first() -> None:
    assert "".join(name for _, name in interleaved("ABC", 3)) == "ABCBCACAB"
