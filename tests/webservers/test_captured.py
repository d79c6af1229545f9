"""What web servers send today is what tests/cgi/quirks.json says, which all rules about them stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from simple_fastcgi.cgi import request
from simple_fastcgi.cgi.paths import find_mount, normalize_root_path
from tests.cgi.captured.capture import capture
from tests.cgi.captured.servers import SERVERS
from tests.cgi.captures import CAPTURES

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.once, pytest.mark.no_cover]


@pytest.mark.parametrize("server", SERVERS)
def test_captured_anew(server: str, program: Callable[[str], str]) -> None:
    """If this fails with a new version of a web server: ``python -m tests.cgi.captured``, and look at the changes."""
    fresh = capture(server, program)
    for row in fresh["captures"]:
        params, expected = dict(row["params"]), row["expected"]
        setup = fresh["setups"][row["setup"]]
        told = row.get("root_path", setup["root_path"])
        if setup["role"] == "responder":
            root_path = None if told is None else normalize_root_path(told)
            assert find_mount(params, root_path) == (expected["root"], expected["path"])
        assert request.scheme(params) == expected["scheme"]
        assert request.authorization(params) == expected["authorization"]
    # Versions may differ in which URLs they refuse.
    assert {row["setup"] for row in fresh["captures"]} == {c.setup for c in CAPTURES if c.setup in fresh["setups"]}
