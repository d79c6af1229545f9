"""Checks of the mount point, the path and the query: they are to be those that the browser asked for."""

from __future__ import annotations

from .report import ok, problem, warning
from .visit import NotProbeError, unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .report import Finding
    from .visit import Visit

_QUERY = "a=1&b=x%20y+z%26&a=2&empty="


def mount(visit: Visit) -> Finding:
    """Whether mount point and path are together what was asked for."""
    seen = visit.look("/one/two")
    asked, software = f"{visit.mount}/one/two", visit.software
    sent = ", ".join(
        f"{name}={seen.params[name]}" if name in seen.params else f"no {name}"
        for name in ("SCRIPT_NAME", "PATH_INFO", "REQUEST_URI")
    )
    if seen.path != asked:
        return problem(
            f"asked for {asked}, the application sees {seen.path}",
            f"the web server sends {sent}: routes will not match, and generated URLs be wrong",
            _mount_cure(visit),
        )
    if seen.root_path == visit.mount:
        return ok(f"at {visit.mount or '/'}: SCRIPT_NAME and path are right")
    if not seen.root_path:
        return problem(
            f"the application takes itself to be mounted at /, not at {visit.mount}",
            f"the web server sends {sent}, which does not tell the mount point: routes will not match, and generated "
            "URLs lack it",
            _mount_cure(visit),
        )
    cure = software.cure("root") if not visit.mount else ""
    return problem(
        f"the application takes itself to be mounted at {seen.root_path}, not at {visit.mount or '/'}",
        f"the web server sends {sent}: routes will not match, and generated URLs be wrong",
        f"{cure} (or: {_mount_cure(visit)})" if cure else _mount_cure(visit),
    )


def _mount_cure(visit: Visit) -> str:
    told = f"serve the application with --root-path {visit.mount or '/'}"
    return f"{visit.software.cure('mount', mount=visit.mount)} (or: {told})" if visit.mount else told


def path_info(visit: Visit) -> Finding:
    """Whether the path is told in a way that loses nothing."""
    params = visit.look("/one/two").params
    if "REQUEST_URI" not in params:
        return warning(
            "REQUEST_URI is not sent",
            "the URL as the browser sent it is lost, and with it what tells mount points apart",
            visit.software.cure("request_uri"),
        )
    if not params.get("PATH_INFO"):
        return ok("it is not sent; the path is found by REQUEST_URI")
    return ok("it is sent, and REQUEST_URI, too")


def encoding(visit: Visit) -> Finding:
    """Whether percent-encoded letters are decoded once, and no more."""
    seen = visit.look("/caf%C3%A9%20%2520")
    expected = f"{visit.mount}/café %20"
    if seen.path == expected:
        return ok("percent-encoded letters arrive")
    return problem(
        f"asked for /caf%C3%A9%20%2520, the application sees {seen.path.removeprefix(visit.mount)!r}",
        "the path is decoded twice, or changed, on its way",
        f"take rewrites out that build the path anew; {visit.software.cure('request_uri')}",
    )


def slashes(visit: Visit) -> Finding:
    """What becomes of double slashes and of encoded ones."""
    try:
        double = visit.look("/a//b").path.removeprefix(visit.mount)
    except NotProbeError as error:
        return unanswered(error)
    try:
        encoded = visit.look("/a%2Fb").path.removeprefix(visit.mount)
    except NotProbeError as error:
        return warning(
            f"a URL with an encoded slash (%2F) is answered {error} by the web server itself",
            "names with a slash in them cannot stand in the path",
            visit.software.cure("encoded slash"),
        )
    if double not in ("/a//b", "/a/b"):
        return problem(
            f"asked for /a//b, the application sees {double}",
            "the path is changed on its way",
            "take rewrites out that build the path anew",
        )
    told = "arrive" if double == "/a//b" else "are merged by the web server"
    return ok(f"double slashes {told}; %2F arrives as {'/' if encoded == '/a/b' else encoded[2:-1]}")


def query(visit: Visit) -> Finding:
    """Whether the query arrives as it was sent."""
    seen = visit.look(f"/?{_QUERY}")
    if seen.query_string == _QUERY:
        return ok("the query string arrives as it was sent")
    return problem(
        f"the query string {_QUERY!r} arrives as {seen.query_string!r}",
        "a rewrite drops or changes it",
        "pass it on: QUERY_STRING (nginx: fastcgi_param QUERY_STRING $query_string; Apache: RewriteRule with [QSA])",
    )
