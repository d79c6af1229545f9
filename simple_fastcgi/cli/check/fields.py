"""Checks of host, scheme, header fields, and HEAD."""

from __future__ import annotations

from ...check import MARK
from .report import ok, problem, warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .report import Finding
    from .visit import Visit

_CREDENTIALS = "Basic c2ltcGxlOmZhc3RjZ2k="
_PROXY = "http://proxy.invalid:1"


def host(visit: Visit) -> Finding:
    """Whether URLs with a host would be right."""
    seen, asked = visit.look(), visit.url.host
    got = seen.get("host")
    if got is not None and got.lower() == asked.lower():
        return ok(f"Host arrives as {got}")
    cure = visit.software.cure("host")
    if got is None:
        return problem("the header field Host does not arrive", "URLs with a host cannot be made", cure)
    name, colon, port = asked.rpartition(":")
    if colon and port.isdecimal() and got.lower() == name.lower():
        return problem(f"Host {asked} arrives without its port", "URLs with a host will lack the port", cure)
    return problem(f"Host {asked} arrives as {got}", "URLs with a host will lead to another one", cure)


def scheme(visit: Visit) -> Finding:
    """Whether the application knows of TLS."""
    seen, asked = visit.look(), visit.url.scheme
    if seen.scheme == asked:
        return ok(f"the application sees {asked}")
    if asked == "https":
        why = "TLS ends before the web server, which does not know of it: URLs, redirects and secure cookies go wrong"
    else:
        why = "the web server claims TLS where there is none: URLs lead to https://, and secure cookies get lost"
    return problem(f"asked with {asked}, the application sees {seen.scheme}", why, visit.software.cure(asked))


def authorization(visit: Visit) -> Finding:
    """Whether the Authorization field arrives."""
    sent = visit.credentials or _CREDENTIALS
    answer = visit.ask(fields={"Authorization": sent})
    if answer.status == 401:
        return ok("the web server itself checks passwords: not tried with another one")
    seen = visit.look(fields={"Authorization": sent})
    got = seen.get("authorization")
    if got == sent:
        return ok("it arrives")
    cure = visit.software.cure("authorization")
    if got:
        return problem("the header field Authorization arrives changed", "logins and API tokens will not work", cure)
    return problem(
        "the header field Authorization is lost on its way",
        "the web server keeps it to itself: logins by HTTP and API tokens will not work",
        cure,
    )


def proxy(visit: Visit) -> Finding:
    """Whether HTTP_PROXY is kept from the application (httpoxy)."""
    seen = visit.look(fields={"Proxy": _PROXY})
    if any(_PROXY in value for _, value in seen.headers):
        return problem(
            "the header field Proxy arrives",
            "programs that the application starts take HTTP_PROXY for their proxy (httpoxy)",
            'update simple_fastcgi, which drops it; nginx: fastcgi_param HTTP_PROXY "";',
        )
    return ok("the header field Proxy does not arrive, as it should be (httpoxy)")


def head(visit: Visit) -> Finding:
    """Whether HEAD is answered, as HEAD."""
    answer = visit.ask(method="HEAD")
    told = answer.get(MARK)
    if answer.status != 200 or not told:
        return problem(
            f"HEAD is answered {answer.status} by the web server itself",
            "monitors and caches ask with HEAD",
            "take the rule out that forbids it (nginx: limit_except; Apache: <Limit>, Require method)",
        )
    if told != "HEAD":
        return warning(
            f"HEAD arrives as {told}",
            "the application makes a body for nothing",
            "a cache before the web server does so (nginx: proxy_cache_convert_head off;)",
        )
    return ok("HEAD arrives, and is answered without a body")
