"""What the parent and the process of the application tell each other, as lines of JSON over a socket pair."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from typing import BinaryIO

STOP = b"stop\n"
"""From the parent: end. Where the line just breaks, the parent has died."""


@dataclass(frozen=True)
class _Message:
    def encode(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """The message that :meth:`encode` made a line of."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Orders(_Message):
    """To the application's process: what to run, and how."""

    app: str
    factory: bool
    interface: Literal["auto", "wsgi", "asgi"]
    threads: int
    debug: bool
    listening: int
    """The number of the descriptor that it inherits."""
    folder: str
    """Where the socket is; to be removed by whoever is left."""
    patience: float
    """Seconds after which the process is ended by force, when it was told to end."""
    argv: list[str]

    @classmethod
    def read(cls, control: BinaryIO) -> Self:
        """The first line of all."""
        return cls.decode(control.readline())


@dataclass(frozen=True)
class Report(_Message):
    """From the application's process: how its start went."""

    kind: Literal["serving", "failed", "refused"]
    """"failed": the application's own code raised. "refused": it was asked for wrongly, there is no such module."""
    text: str
    """What serves, or why nothing does: a traceback, or one line."""
    note: str = ""
    """What else there is to say."""
