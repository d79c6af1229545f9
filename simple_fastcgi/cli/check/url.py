"""The checks of a set-up through its web server, in order."""

from __future__ import annotations

from ...errors import ConfigurationError
from ..call.url import parse_url
from . import bodies, connections, fields, paths, reach
from .browser import AskError
from .options import MAX_BODY_SIZE
from .report import problem
from .visit import NotProbeError, Visit, unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from .report import Finding

CHECKS: dict[str, Callable[[Visit], Finding]] = {
    "web server": reach.reachable,
    "probe": reach.probe,
    "mount point": paths.mount,
    "PATH_INFO": paths.path_info,
    "encoding": paths.encoding,
    "slashes": paths.slashes,
    "query": paths.query,
    "host": fields.host,
    "scheme": fields.scheme,
    "Authorization": fields.authorization,
    "Proxy": fields.proxy,
    "HEAD": fields.head,
    "body": bodies.body,
    "body limit": bodies.body_limit,
    "chunked body": bodies.chunked,
    "streaming": connections.streaming,
    "keep-alive": connections.keep_alive,
}
"""By their names."""


def plan(arguments: Namespace) -> Callable[[], Iterator[tuple[str, Finding]]]:
    """What runs the checks that `arguments` ask for; ConfigurationError or CallError for what cannot be asked."""
    url = parse_url(arguments.target)
    if b"?" in url.target:
        raise ConfigurationError(f"{arguments.target!r}: give the URL of the mount point, without a query")
    mebibytes = MAX_BODY_SIZE if arguments.max_body_size is None else arguments.max_body_size
    visit = Visit(url, timeout=arguments.timeout, max_body_size=mebibytes << 20)
    return lambda: _run(visit)


def _run(visit: Visit) -> Iterator[tuple[str, Finding]]:
    try:
        for name, check in CHECKS.items():
            finding = _checked(check, visit)
            yield name, finding
            if finding.final:
                return
    finally:
        visit.browser.close()


def _checked(check: Callable[[Visit], Finding], visit: Visit) -> Finding:
    try:
        return check(visit)
    except NotProbeError as error:
        return unanswered(error)
    except AskError as error:
        return problem(
            str(error), "other questions were answered", f"{visit.software.log}; a longer --timeout may help"
        )
