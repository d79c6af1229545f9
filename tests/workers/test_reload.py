"""No request is lost while workers are reloaded, killed and upgraded under load; scripts/reload.py does more of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .reload import run

if TYPE_CHECKING:
    from .reload import Front, Interface

pytestmark = [pytest.mark.once, pytest.mark.no_cover]


@pytest.mark.parametrize(
    ("front", "interface", "by", "transport"),
    [
        ("nginx", "wsgi", "gunicorn", "unix"),
        ("haproxy", "asgi", "gunicorn", "tcp"),
        ("nginx", "asgi", "deploys", "unix"),
        ("nginx", "wsgi", "serve", "unix"),
    ],
)
def test_no_request_is_lost(front: Front, interface: Interface, by: str, transport: str, folder: str) -> None:
    assert shutil.which(front), f"{front} is missing: python3 scripts/prepare.py programs"
    result = run(
        front, interface, Path(folder), by=by, transport=transport, clients=12, seconds=4, least=300, hup=1, kill=1.7
    )
    assert not result.lost, "\n".join([*result.lost[:20], result.log])
    assert result.requests >= 300
    assert result.reloads >= 1
    assert result.kills >= 1
    assert result.upgrades == (by == "gunicorn")
    # Not even those of a killed worker are many: each has what it can serve at once.
    assert result.killed <= 12 * result.kills
    assert "Traceback" not in result.log
