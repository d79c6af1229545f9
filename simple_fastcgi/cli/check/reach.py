"""The first checks: the web server is there, and reaches the probe."""

from __future__ import annotations

import html
import re

from ...check import MARK
from .browser import AskError
from .report import ok, problem, warning
from .seen import read_seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .browser import Answer
    from .cures import Software
    from .report import Finding
    from .visit import Visit

PROBE = "simple-fastcgi serve simple_fastcgi.check:app --bind ADDRESS"
"""How the probe is started."""

_CURES = {
    "name": "correct the name, or enter it into DNS or /etc/hosts",
    "refused": "start the web server; have it listen on this address and port; see what listens with: ss -ltnp",
    "unreachable": "correct the address; look at routes and firewalls",
    "tls": "ask with http://, or look at the certificate and the TLS settings of the web server",
    "time": "a firewall may drop what comes, the application may hang, or --timeout be too short",
    "http": "correct the port: another service answers there; https:// if it speaks TLS",
    "broken": "look into the web server's error log; https:// if it speaks TLS",
}
_TITLE = re.compile(rb"<title>\s*([^<]{1,80}?)\s*</title>", re.IGNORECASE)
_ASK_SOCKET = "; ask the socket itself: simple-fastcgi check unix:/run/app.sock --web-server-user www-data"


def reachable(visit: Visit) -> Finding:
    """Whether a web server answers at all."""
    try:
        answer = visit.ask()
    except AskError as error:
        return problem(str(error), "so there is nothing to check", _CURES[error.kind], final=True)
    visit.server = answer.get("server")
    name = visit.server or "a web server"
    told = f"{name} answers {answer.status} in {answer.seconds * 1000:.0f} ms"
    if visit.browser.distrust:
        return warning(
            told,
            f"its certificate is not trusted: {visit.browser.distrust}",
            "browsers need one of a known authority for this very name; ask with the name that it is for",
        )
    return ok(told)


def probe(visit: Visit) -> Finding:
    """Whether it is the probe that answers."""
    answer = visit.ask()
    seen = read_seen(answer.body) if answer.get(MARK) else None
    if seen is not None:
        visit.first = seen
        return ok(f"it answers through {seen.software or 'a web server without a name'}")
    what, why, cure = _other_answer(visit, answer, visit.software)
    return problem(what, why, cure, final=True)


def _other_answer(visit: Visit, answer: Answer, software: Software) -> tuple[str, str, str]:
    """What, why, and the cure."""
    status, url = answer.status, f"{visit.base}/"
    if 300 <= status < 400:
        what = f"{url} redirects to {answer.get('location')!r}"
        return what, "the answer is elsewhere", "check that URL"
    if status == 401:
        why = "the URL is protected before the application is asked"
        return "the web server asks for a password", why, "put it into the URL: http://user:password@host/path"
    if status == 403:
        why = "a rule denies it, or a folder is served there and no application"
        cure = f"give the URL to the application in its configuration; {software.log}"
        return "the web server forbids it (403)", why, cure
    if status == 404:
        why = (
            "the probe answers at every path below its mount point, so this answer is the web server's, or another "
            "application's"
        )
        cure = software.cure("mount", mount=visit.mount) if visit.mount else "give / to the application"
        return f"nothing is mounted at {url} (404)", why, f"{cure} - then reload the web server"
    if status in (502, 503):
        why = (
            "the application is not running, or listens at another address than the web server's configuration says, "
            "or the web server's user may not connect to its socket"
        )
        cure = (
            f"{software.log}: 'No such file' and 'refused' mean not running or another address, 'Permission denied' "
            f"the rights of the socket{_ASK_SOCKET}"
        )
        return f"the web server has no answer from the application ({status})", why, cure
    if status == 504:
        why = "the application hangs, all of its threads are busy, or what listens there speaks no FastCGI"
        what = "the web server has waited in vain for the application (504)"
        return what, why, f"restart the application{_ASK_SOCKET}"
    if status >= 500:
        why = "the application failed, or the web server could not start it"
        return f"the answer is an error ({status})", why, f"{software.log}; the application's own output tells more"
    cure = (
        f"start it in the application's place: {PROBE} - where the web server itself starts the application, write "
        "simple_fastcgi.check:app in its place there; or check the application's socket as it is: "
        "simple-fastcgi check unix:/run/app.sock"
    )
    return (
        f"{_page(answer)} answers ({status}), not the probe",
        "what an application sees only the probe can tell",
        cure,
    )


def _page(answer: Answer) -> str:
    title = _TITLE.search(answer.body)
    if title is not None:
        return f'the page "{html.unescape(title[1].decode("utf-8", "replace"))}"'
    return f"something else ({answer.get('content-type') or 'without a Content-Type'})"
