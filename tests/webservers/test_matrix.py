"""The matrix of `make matrix`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .scenarios import Matrix
from .sites import FRONTS

if TYPE_CHECKING:
    from .fronts import Front

pytestmark = pytest.mark.once


def test_the_worst_of_all_tests_is_told() -> None:
    matrix = Matrix()
    for outcome in ("passed", "failed", "passed"):
        matrix.add("nginx", "unix", "routing", "", outcome)
    matrix.add("nginx", "tcp", "routing", "", "passed")
    matrix.add("nginx", "unix", "streaming", "", "passed")
    for front in ("spawning", "external"):
        matrix.add("lighttpd", front, "streaming", "it buffers", "passed")
    matrix.add("lighttpd", "spawning", "routing", "", "skipped")
    assert (
        "\n".join(matrix.lines())
        == """\
| scenario     | lighttpd | nginx      |
|--------------|----------|------------|
| 1. routing   | skipped  | ok, FAILED |
| 2. streaming | -1       | ok         |

| web server | front    | 1       | 2  |
|------------|----------|---------|----|
| lighttpd   | external | .       | -1 |
| lighttpd   | spawning | skipped | -1 |
| nginx      | tcp      | ok      | .  |
| nginx      | unix     | FAILED  | ok |

ok: as asked. -N: the web server cannot, the test looks at what happens; N is the reason.
.: not run: this front is asked for URLs only, or has no part in the scenario.
-1: it buffers
2 web servers, 4 fronts, 2 scenarios: 2 ok, 2 the web server cannot, 1 FAILED, 1 skipped"""
    )


@pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.name)
def test_what_a_front_cannot_do_has_a_reason(front: Front) -> None:
    """Else the matrix would say that all is well."""
    cannot = {
        "chunked uploads": front.chunked_status is not None,
        "streaming": not front.streams,
        "client that leaves": not front.notices_leaving,
        "error within the response": not front.breaks_off,
    }
    if front.full:
        assert {name for name in cannot if cannot[name]} <= set(front.limits)


def test_fronts_have_names_of_their_own() -> None:
    names = [front.name for front in FRONTS]
    assert sorted(set(names)) == sorted(names)
