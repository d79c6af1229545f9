"""Every bound of the package: defaults, what is refused, and that nothing changes one later."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.limits import KIB, MAX_SECONDS, MIB, ClientLimits, Limits, given_limits

NAMES = list(Limits.DEFAULTS)
COUNTS = [name for name in NAMES if not name.endswith("_timeout")]
TIMES = [name for name in NAMES if name.endswith("_timeout")]


def test_defaults() -> None:
    limits = Limits()
    assert dict(limits) == Limits.DEFAULTS
    assert (limits.max_params_bytes, limits.max_buffered_input, limits.max_buffered_output) == (
        MIB,
        256 * KIB,
        64 * KIB,
    )
    assert {type(getattr(limits, name)) for name in COUNTS} == {int}
    assert {type(getattr(limits, name)) for name in TIMES} == {float}
    assert repr(limits) == "Limits()"


@pytest.mark.parametrize("name", NAMES)
def test_every_limit_is_documented_with_its_default(name: str) -> None:
    assert Limits.__doc__ is not None
    found = re.search(rf"``{name}`` \((?:(bytes|seconds), )?default (\d+)( KiB| MiB)?\)\n", Limits.__doc__)
    assert found is not None
    unit, number, prefix = found.groups()
    assert int(number) * {None: 1, " KiB": KIB, " MiB": MIB}[prefix] == Limits.DEFAULTS[name]
    assert unit == ("seconds" if name in TIMES else "bytes" if re.search("_bytes|buffered|spooled", name) else None)


@pytest.mark.parametrize("name", NAMES)
def test_one_changed(name: str) -> None:
    limits = Limits(**{name: 7})
    assert getattr(limits, name) == 7
    assert {other: value for other, value in limits if other != name} == {
        other: value for other, value in Limits.DEFAULTS.items() if other != name
    }
    assert repr(limits) == f"Limits({name}={'7.0' if name in TIMES else '7'})"
    assert limits != Limits()
    assert limits == Limits(**{name: 7})
    assert hash(limits) == hash(Limits(**{name: 7}))
    assert Limits(**dict(limits)) == limits


def test_equality() -> None:
    assert Limits() == Limits()
    assert Limits() != dict(Limits())
    assert len({Limits(), Limits(), Limits(max_connections=1)}) == 2


@pytest.mark.parametrize("name", [*NAMES, "other"])
def test_limits_never_change(name: str) -> None:
    limits = Limits()
    with pytest.raises(AttributeError, match=rf"make a new one with {name}=5"):
        setattr(limits, name, 5)
    with pytest.raises(AttributeError, match=rf"Limits never change; make a new one without {name}"):
        delattr(limits, name)
    assert limits == Limits()


@pytest.mark.parametrize("limits", [Limits(), Limits(max_params=7, read_timeout=0.5), ClientLimits(read_timeout=7)])
def test_copies(limits: Limits | ClientLimits) -> None:
    """As the settings of a program are copied, or sent to another process."""
    copies: list[Any] = [copy.copy(limits), copy.deepcopy({"limits": limits})["limits"]]
    copies += [pickle.loads(pickle.dumps(limits, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for each in copies:
        assert type(each) is type(limits)
        assert each == limits


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.0, 0.5, True, False, "5", None, math.inf, b"5"], ids=repr)
def test_bad_counts(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{name}={value!r}: give ")):
        Limits(**{name: value})


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    "value",
    [0, -1, 0.0, -0.5, math.nan, math.inf, -math.inf, True, "5", None, MAX_SECONDS + 1, 10**400, 1e300],
    ids=lambda value: repr(value)[:20],
)
def test_bad_times(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{name}={value!r}: give ")):
        Limits(**{name: value})


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0.001, 1, MAX_SECONDS], ids=str)
def test_good_times(name: str, value: float) -> None:
    kept = getattr(Limits(**{name: value}), name)
    assert kept == value
    assert type(kept) is float
    # poll() takes milliseconds in a C int.
    assert kept * 1000 < 2**31


def test_unknown_names_are_told() -> None:
    with pytest.raises(ConfigurationError, match=r"no such limit: max_conns, timeout \(there are: max_params_bytes, "):
        Limits(timeout=1, max_conns=2, max_connections=3)


def test_there_are_no_more_request_ids() -> None:
    assert Limits(max_requests_per_connection=65535).max_requests_per_connection == 65535
    with pytest.raises(ConfigurationError, match="65535 request ids"):
        Limits(max_requests_per_connection=65536)


def test_a_configuration_error_is_a_value_error() -> None:
    assert issubclass(ConfigurationError, ValueError)


@given(st.dictionaries(st.sampled_from(NAMES), st.integers() | st.floats() | st.booleans()))
def test_accepted_or_refused(bounds: dict[str, Any]) -> None:
    try:
        limits = Limits(**bounds)
    except ConfigurationError:
        return
    assert dict(limits) == Limits.DEFAULTS | bounds
    assert all(value > 0 for _, value in limits)


@pytest.mark.parametrize("name", ClientLimits.DEFAULTS)
def test_every_limit_of_a_client(name: str) -> None:
    assert ClientLimits.__doc__ is not None
    found = re.search(rf"``{name}`` \((?:(bytes|seconds), )?default (\d+)( KiB| MiB)?\)\n", ClientLimits.__doc__)
    assert found is not None
    unit, number, prefix = found.groups()
    default = ClientLimits.DEFAULTS[name]
    assert int(number) * {None: 1, " KiB": KIB, " MiB": MIB}[prefix] == default
    assert unit == ("seconds" if isinstance(default, float) else "bytes" if name.endswith("_bytes") else None)
    changed = ClientLimits(**{name: 7})
    assert getattr(changed, name) == 7
    assert changed != ClientLimits()
    assert repr(changed) == f"ClientLimits({name}={7 if isinstance(default, int) else 7.0})"
    with pytest.raises(ConfigurationError, match=rf"{name}=0: give a number above 0"):
        ClientLimits(**{name: 0})
    with pytest.raises(AttributeError, match=rf"ClientLimits never change; make a new one with {name}=5"):
        setattr(changed, name, 5)


def test_what_a_server_takes() -> None:
    own = Limits(max_params=7)
    assert given_limits(own, Limits) is own
    assert given_limits(None, Limits) == Limits()
    wrong: Any
    for wrong in ({"max_params": 7}, 5, Limits, ClientLimits(), ()):
        with pytest.raises(ConfigurationError, match=r"^limits=.*: give Limits\(max_connections=..., ...\)"):
            given_limits(wrong, Limits)


def test_limits_of_a_client_are_no_limits_of_a_server() -> None:
    assert ClientLimits() == ClientLimits()
    assert ClientLimits() != Limits()
    with pytest.raises(ConfigurationError, match=r"no such limit: max_params \(there are: max_connections, "):
        ClientLimits(max_params=1)


def test_what_is_spooled_in_memory_is_told() -> None:
    from simple_fastcgi.client.mapping import SPOOL_MEMORY
    from simple_fastcgi.client.proxy_body import _IN_MEMORY

    told = " ".join((ClientLimits.__doc__ or "").split())
    assert f"in memory up to {_IN_MEMORY // KIB} KiB by a proxy, up to {SPOOL_MEMORY // MIB} MiB by a transport" in told
