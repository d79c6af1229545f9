"""`send_redirect` of native handlers: no web server makes an empty page of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .sites import FULL, client

if TYPE_CHECKING:
    from .fronts import Front
    from .sites import Sites

BY_SOFTWARE = {front.software: front for front in reversed(FULL) if front.transport == "unix" and not front.spawns}


@pytest.mark.parametrize("front", BY_SOFTWARE.values(), ids=BY_SOFTWARE)
def test_a_visitor_is_redirected(sites: Sites, front: Front) -> None:
    site = sites.spawn_behind(front, "tests/webservers/apps/redirects.py")
    with client(site.url) as visitor:
        for method in ("GET", "POST", "HEAD"):
            answer = visitor.request(method, "/?https://other.example/a%3Fb")
            assert (answer.status_code, answer.headers["Location"]) == (302, "https://other.example/a?b")
            answer = visitor.request(method, "/?/page")
            assert answer.status_code == 302
            assert visitor.get(answer.headers["Location"]).text == "the page"
