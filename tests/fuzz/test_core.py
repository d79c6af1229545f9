"""The seeded fuzzer against the core; what it checks stands in :mod:`tests.fuzz.core`."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.protocol.application import ApplicationConnection
from tests.fuzz.amount import FACTOR, SECONDS
from tests.fuzz.case import Act, Case, decode_case, encode_case
from tests.fuzz.core import LIMITS, check, run
from tests.fuzz.mutation import make_case, mutate_case
from tests.fuzz.regressions import REGRESSIONS
from tests.fuzz.shrink import failure, shrink, told
from tests.fuzz.streams import SEEDS
from tests.protocol.wire import begin, record

if TYPE_CHECKING:
    from simple_fastcgi.protocol.streams import Request

CASES = int(1_000 * FACTOR)
"""For each seed. A case has twelve steps, and is played as it stands and in slices."""


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 16))])
def test_mutated_streams(seed: int) -> None:
    violations = 0
    for number in range(CASES):
        case = make_case(Random(seed << 32 | number))
        try:
            violations += check(case)
        except Exception as error:
            pytest.fail(told(check, case, error, f"seed {seed}, case {number}"))
    assert CASES / 4 < violations < CASES * 3 / 4, "too few, or nothing but, violations: this tests little"


@pytest.mark.parametrize("name", REGRESSIONS)
def test_regressions(name: str) -> None:
    check(REGRESSIONS[name])


def test_seeds_are_valid() -> None:
    for records in SEEDS:
        assert check(Case((b"".join(records), Act("write", 0, 300), Act("end")))) is False


# ------------------------------------------------------------------------------------------ the fuzzer itself


class ForgetsTheEnd(ApplicationConnection):
    """Wrong: a request that is aborted and writes errors is never ended."""

    __slots__ = ()

    def end(self, request: Request, app_status: int = 0, data: bytes = b"") -> None:
        if request.stderr is None or not request.stderr_begun:
            super().end(request, app_status, data)
        else:
            self._forget(request)


def found() -> tuple[Case, Exception]:
    for number in range(1000):
        case = make_case(Random(number))
        error = failure(lambda one: check(one, ForgetsTheEnd), case)
        if error is not None:
            return case, error
    raise AssertionError("the fuzzer finds nothing in a core that is wrong")


def test_a_core_that_is_wrong_is_found() -> None:
    case, error = found()
    report = told(lambda one: check(one, ForgetsTheEnd), case, error, "seed 0")
    assert report.startswith("seed 0: AssertionError")
    small = shrink(case, lambda one: isinstance(failure(lambda it: check(it, ForgetsTheEnd), one), AssertionError))
    assert eval(str(small), {"Case": Case, "Act": Act}) == small
    assert str(small) in report
    assert len(encode_case(small)) < 100


def test_a_case_is_the_same_from_its_seed_its_bytes_and_its_neighbours_are_cases() -> None:
    for number in range(300):
        case = make_case(Random(number))
        assert make_case(Random(number)) == case
        assert decode_case(encode_case(case)) == case
        neighbour = mutate_case(Random(number), case)
        check(neighbour)
        check(decode_case(Random(number).randbytes(number)))
        assert neighbour.limits < len(LIMITS)


def test_what_is_sliced_is_the_same_bytes() -> None:
    case = Case((begin() + record(4, 1), Act("write", 0, 20), Act("end")), sizes=(3, 1))
    whole, sliced = run(case, ApplicationConnection, sliced=False), run(case, ApplicationConnection, sliced=True)
    assert whole.sent == sliced.sent != b""
