"""What the checks through a web server have in common: whom they ask, and what they know of it."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote_to_bytes

from ... import __version__
from ...check import MARK
from .browser import Browser
from .cures import Software
from .report import problem
from .seen import Seen, read_seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..call.url import Url
    from .browser import Answer
    from .report import Finding


class NotProbeError(Exception):
    """The answer does not come from the probe."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.reason}".rstrip())
        self.answer = answer


class Visit:
    """Asks the probe that is mounted at `url`.

    ``timeout``
        Seconds, for each question.
    ``max_body_size``
        Bytes of an upload that should come through.
    """

    def __init__(self, url: Url, *, timeout: float, max_body_size: int) -> None:
        self.url = url
        self.timeout = timeout
        self.max_body_size = max_body_size
        self.base = url.target.decode("ascii").rstrip("/")
        """The mount point as it is sent."""
        self.mount = unquote_to_bytes(self.base).decode("utf-8", "surrogateescape")
        """The mount point as an application sees it: "" at the root."""
        self.browser = Browser(url, timeout)
        self.server = ""
        """The header field Server of the first answer."""
        self.first: Seen | None = None
        """The probe's first answer."""

    @property
    def software(self) -> Software:
        """The web server, as far as it is known by now."""
        return Software.named(self.server) if self.first is None else Software.of(self.first, self.server)

    @property
    def credentials(self) -> str | None:
        """What stands in the URL, as an Authorization field."""
        if self.url.userinfo is None:
            return None
        user = self.url.userinfo if ":" in self.url.userinfo else f"{self.url.userinfo}:"
        return "Basic " + b64encode(user.encode("utf-8", "surrogateescape")).decode("ascii")

    def fields(self, **more: str) -> dict[str, str]:
        """Header fields of a request."""
        fields = {"User-Agent": f"simple-fastcgi/{__version__} check", "Accept": "*/*"}
        if self.credentials is not None:
            fields["Authorization"] = self.credentials
        return fields | more

    def ask(
        self,
        path: str = "/",
        method: str = "GET",
        fields: Mapping[str, str] | None = None,
        body: Iterable[bytes] = (),
        *,
        length: int | None = None,
        chunked: bool = False,
    ) -> Answer:
        """The answer to a request for `path` below the mount point; AskError if there is none."""
        target = self.base + path
        return self.browser.ask(method, target, self.fields(**(fields or {})), body, length=length, chunked=chunked)

    def look(
        self,
        path: str = "/",
        method: str = "GET",
        fields: Mapping[str, str] | None = None,
        body: Iterable[bytes] = (),
        *,
        length: int | None = None,
        chunked: bool = False,
    ) -> Seen:
        """What the probe has seen of such a request; AskError without an answer, NotProbeError with another's."""
        answer = self.ask(path, method, fields, body, length=length, chunked=chunked)
        seen = read_seen(answer.body) if answer.get(MARK) else None
        if seen is None:
            raise NotProbeError(answer)
        return seen


def unanswered(error: NotProbeError) -> Finding:
    """What is found where a question should be answered by the probe like all others, and is not."""
    return problem(
        f"the web server answers {error} itself",
        "the request does not reach the application",
        "look into the web server's error log, and for rules about such requests in its configuration",
    )
