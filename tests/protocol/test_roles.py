"""Roles that a handler class may declare."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from simple_fastcgi.errors import ConfigurationError
from simple_fastcgi.protocol.roles import check_roles


@pytest.mark.parametrize("roles", [(1,), [2], {3}, frozenset({1, 3}), (1, 2, 3), {1: "Responder"}, (1, 1)])
def test_roles(roles: Any) -> None:
    check_roles(SimpleNamespace(roles=roles))


@pytest.mark.parametrize(
    "roles",
    [(), [], set(), 1, None, "", "Responder", (0,), (4,), (1, 9), (True,), (1.0,), ("1",), range(1, 5)],
    ids=repr,
)
def test_no_roles(roles: Any) -> None:
    made: Any = type("Guard", (), {"roles": roles})
    with pytest.raises(ConfigurationError) as caught:
        check_roles(made)
    assert str(caught.value).startswith(f"Guard.roles = {roles!r}: give ")
    assert str(caught.value).endswith("for example roles = (1,)")


def test_a_handler_without_roles() -> None:
    nothing = object()
    with pytest.raises(ConfigurationError, match="^<object object at .*>.roles = None: give "):
        check_roles(nothing)
