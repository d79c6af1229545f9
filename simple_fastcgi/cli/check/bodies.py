"""Checks of requests' bodies: whole, large, and without a length."""

from __future__ import annotations

import hashlib
import random

from .browser import AskError
from .report import ok, problem, warning
from .visit import NotProbeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .report import Finding
    from .visit import Visit

_KIB = 1024
_MIB = _KIB * _KIB
_BLOCK = random.Random(1).randbytes(64 * _KIB)  # noqa: S311 - that it cannot be guessed is not the point
_SMALL = 100_000
_FIRST_SIZE = 64 * _KIB


class _Upload:
    """A body of `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self.size, len(_BLOCK)):
            yield _BLOCK[: self.size - start]

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for block in self:
            digest.update(block)
        return digest.hexdigest()


class _LostError(Exception):
    """A body did not arrive as it was sent."""


def body(visit: Visit) -> Finding:
    """Whether a body arrives as it was sent."""
    try:
        _send(visit, _SMALL)
    except _LostError as error:
        return problem(str(error), "uploads and forms will be damaged", "take out of its way what changes bodies")
    return ok(f"a body of {_size(_SMALL)} arrives whole")


def body_limit(visit: Visit) -> Finding:
    """How large a body may be."""
    wanted = visit.max_body_size
    try:
        refused = _try(visit, wanted)
        if refused is None:
            return ok(f"uploads of {_size(wanted)} come through")
        taken, size = 0, _FIRST_SIZE
        while size < wanted:
            told = _try(visit, size)
            if told is not None:
                refused = told
                break
            taken, size = size, size * 2
        size = min(size, wanted)
    except AskError as error:
        if error.kind != "time":
            raise
        return warning(
            f"an upload of {_size(wanted)} did not come through within {visit.timeout:g} s",
            "the way is slow, or something waits",
            "give a longer --timeout, or a smaller --max-body-size",
        )
    except _LostError as error:
        return problem(str(error), "large uploads will be damaged", "take out of its way what changes bodies")
    return problem(
        f"an upload of {_size(size)} is refused ({refused}), {_size(taken) if taken else 'nothing less'} comes through",
        f"the web server has a limit below {_size(wanted)}, which --max-body-size asks for",
        visit.software.cure("body", bytes=wanted, kib=wanted // _KIB, mib=-(-wanted // _MIB)),
    )


def chunked(visit: Visit) -> Finding:
    """Whether a body arrives whose length is not known before."""
    cannot = visit.software.cannot("chunked")
    try:
        _send(visit, _SMALL, chunked=True)
    except (_LostError, NotProbeError) as error:
        what = f"it is refused: {error}" if isinstance(error, NotProbeError) else str(error)
        cure = f"none: {cannot}" if cannot else visit.software.cure("chunked")
        return warning(what, "some clients (curl -T -, WebDAV, phones) upload without a length", cure)
    return ok("a body without a length (chunked) arrives whole")


def _try(visit: Visit, size: int) -> str | None:
    """How a body of `size` bytes is refused; None if it is not."""
    try:
        _send(visit, size)
    except NotProbeError as error:
        return str(error)
    except AskError as error:
        # Who hangs up while much is sent has refused it, too.
        if error.kind != "broken":
            raise
        return "the connection was closed"
    return None


def _send(visit: Visit, size: int, *, chunked: bool = False) -> None:
    upload = _Upload(size)
    seen = visit.look(
        method="POST",
        fields={"Content-Type": "application/octet-stream"},
        body=upload,
        length=None if chunked else size,
        chunked=chunked,
    )
    if seen.size != size:
        raise _LostError(f"of a body of {size} bytes {seen.size} arrive")
    if seen.sha256 != upload.sha256:
        raise _LostError(f"a body of {size} bytes arrives with other bytes in it")


def _size(size: int) -> str:
    if size % _MIB == 0:
        return f"{size // _MIB} MiB"
    return f"{size // _KIB} KiB" if size % _KIB == 0 else f"{size} bytes"
