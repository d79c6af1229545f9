"""When a server that ends waits for a web server, tells it of the end, and closes all the same."""

from __future__ import annotations

import pytest

from simple_fastcgi.cgi.parting import FRESH_SECONDS, PARTING_INTERVAL, has_waited, is_fresh, is_to_be_told

NOW = 1000.0


def test_a_new_connection_is_waited_for() -> None:
    assert is_fresh(NOW, NOW)
    assert not is_fresh(NOW, NOW - FRESH_SECONDS - 0.1)


@pytest.mark.parametrize(("seconds", "waited"), [(0.5, False), (1.5, True)])
def test_the_wait_begins_with_the_end(seconds: float, waited: bool) -> None:
    assert has_waited(NOW, NOW - 60, NOW - seconds, graceful_timeout=30) is waited


@pytest.mark.parametrize(("seconds", "waited"), [(0.5, False), (1.5, True)])
def test_it_begins_anew_behind_each_request(seconds: float, waited: bool) -> None:
    assert has_waited(NOW, NOW - seconds, NOW - 20, graceful_timeout=30) is waited


def test_it_is_short_where_there_is_little_time() -> None:
    assert has_waited(NOW, NOW - 60, NOW - 0.5, graceful_timeout=1)


def test_the_end_is_told_again_after_a_while_or_a_request() -> None:
    assert is_to_be_told(NOW, NOW - 60, told_at=0)
    assert not is_to_be_told(NOW, NOW - 60, told_at=NOW - PARTING_INTERVAL / 2)
    assert is_to_be_told(NOW, NOW - 60, told_at=NOW - PARTING_INTERVAL * 2)
    assert is_to_be_told(NOW, NOW - PARTING_INTERVAL / 4, told_at=NOW - PARTING_INTERVAL / 2)
