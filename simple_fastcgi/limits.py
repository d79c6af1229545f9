"""Every bound of the package, in frozen objects: :class:`Limits` of a server, :class:`ClientLimits` of a client."""

from __future__ import annotations

from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    Bounds = TypeVar("Bounds", bound="_Bounds")

KIB = 1024
MIB = 1024 * KIB
MAX_SECONDS = 1_000_000
"""The longest time: system calls fail beyond some weeks, and at infinity."""


class _Bounds:
    """Named numbers with defaults, which never change once they are given."""

    __slots__ = ()

    DEFAULTS: dict[str, float] = {}
    """Each bound's default; a whole number for counts and bytes, a float for seconds."""

    def __init__(self, **bounds: float) -> None:
        unknown = bounds.keys() - self.DEFAULTS.keys()
        if unknown:
            known = ", ".join(self.DEFAULTS)
            raise ConfigurationError(f"no such limit: {', '.join(sorted(unknown))} (there are: {known})")
        for name, default in self.DEFAULTS.items():
            object.__setattr__(self, name, _checked(name, bounds.get(name, default), default))

    def __setattr__(self, name: str, value: object) -> None:
        kind = type(self).__name__
        raise AttributeError(f"{kind} never change; make a new one with {name}={value!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} never change; make a new one without {name}")

    def __reduce__(self) -> tuple[object, ...]:
        # Else pickle and copy would set the attributes of what they make.
        return _made, (type(self), dict(self))

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return ((name, getattr(self, name)) for name in self.DEFAULTS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value}" for name, value in self if value != self.DEFAULTS[name])
        return f"{type(self).__name__}({changed})"


def _made(kind: type[_Bounds], bounds: dict[str, float]) -> _Bounds:
    return kind(**bounds)


class Limits(_Bounds):
    """What a server grants its peers. All arguments are keywords; instances never change.

    What a peer sees when a bound is hit stands beside each of them.

    ``max_params_bytes`` (bytes, default 1 MiB)
        Name-value pairs of one request, as sent in FCGI_PARAMS, and of all requests of one
        connection whose parameters are still arriving. The largest header block that a
        common web server accepts is Apache's, about 800 KB. Beyond: the connection is closed
        as a protocol violation.
    ``max_params`` (default 10000)
        Name-value pairs of one request: each costs memory beyond its bytes. Beyond: the
        connection is closed as a protocol violation.
    ``max_requests_per_connection`` (default 128)
        Requests under way at once on one connection, answered as FCGI_MAX_REQS; an aborted
        one counts until its handler has ended. HAProxy was seen with 11. Beyond:
        FCGI_OVERLOADED (FCGI_CANT_MPX_CONN if the bound is 1), and a 503 before it for the visitor.
    ``max_buffered_input`` (bytes, default 256 KiB)
        Unread input (FCGI_STDIN, FCGI_DATA) of one connection in memory. Beyond, which one read
        of up to 256 KiB may be: the server stops reading that connection until the handlers
        have read; the web server feels it as backpressure. But once requests have been
        multiplexed on the connection, the rest goes to a file, so that one slow upload does not
        hold up the others: FastCGI has no flow control for each request.
    ``max_spooled_input`` (bytes, default 64 MiB)
        Unread input of one multiplexed connection in its temporary file (in TMPDIR; at most
        256 such files in a process). Beyond: backpressure, for all of its requests. Where that
        leaves a handler waiting for input that cannot come, since the requests whose input fills
        the file wait for a thread that is free, its ``read()`` raises ``TimeoutError`` after a
        second; on a server with a single thread at once.
    ``max_buffered_output`` (bytes, default 64 KiB)
        Output (FCGI_STDOUT, FCGI_STDERR) that a request collects before it is sent without
        an explicit flush; also what may wait for a slow web server before writers wait.
    ``max_connections`` (default 1024)
        Open connections of one server, answered as FCGI_MAX_CONNS. Beyond: further ones
        wait in the listen queue until one closes. Meanwhile kept connections without a request
        give way, a quarter of them each second, those that are idle for longest first, and
        none within a second of its last request; nginx and HAProxy are told, and close.
    ``params_timeout`` (seconds, default 30)
        From a request's first byte until its parameters are complete, or until a record that
        begins a connection is; whether the web server takes answers meanwhile or not. But while
        the server itself does not read, since handlers are behind with input or what the web
        server does not take fills ``max_buffered_output``, no time counts, and it begins anew
        behind that. It is looked at once a second. Beyond: the connection is closed.
    ``idle_timeout`` (seconds, default 300)
        A kept connection without a request. Beyond: it is closed. So it is if the web server
        takes as long with a piece of input that belongs to a request whose answer came early, such
        as a 413. It should exceed the web
        server's own time (nginx closes idle upstream connections after 60 s), so that the
        web server never sends a request into a connection that is just being closed.
    ``read_timeout`` (seconds, default 300)
        A handler's wait for the next bytes of its input. Beyond: ``TimeoutError`` in the
        handler's ``read()``.
    ``write_timeout`` (seconds, default 60)
        A write without any progress. Beyond: the connection is closed and its requests
        count as aborted.
    ``linger_timeout`` (seconds, default 5)
        After an answer that came before the end of its input, on a connection that is not
        kept: how long the rest is read and thrown away, so that the web server sees the
        answer and no reset: so long after its last byte, and six times as long in all.
    ``graceful_timeout`` (seconds, default 30)
        At shutdown: how long requests in flight may take to end. Beyond: they are cut off. The same
        for those beside a response that broke off behind its head, on a connection that they
        share: it must close for the web server to see that, and takes no more requests.

    Times are at most 1,000,000 seconds, which is 11 days. Raises
    :class:`~simple_fastcgi.errors.ConfigurationError` for an unknown name, a wrong type, or
    a value out of range.
    """

    __slots__ = (
        "graceful_timeout",
        "idle_timeout",
        "linger_timeout",
        "max_buffered_input",
        "max_buffered_output",
        "max_connections",
        "max_params",
        "max_params_bytes",
        "max_requests_per_connection",
        "max_spooled_input",
        "params_timeout",
        "read_timeout",
        "write_timeout",
    )

    max_params_bytes: int
    max_params: int
    max_requests_per_connection: int
    max_buffered_input: int
    max_spooled_input: int
    max_buffered_output: int
    max_connections: int
    params_timeout: float
    idle_timeout: float
    read_timeout: float
    write_timeout: float
    linger_timeout: float
    graceful_timeout: float

    DEFAULTS = {
        "max_params_bytes": MIB,
        "max_params": 10_000,
        "max_requests_per_connection": 128,
        "max_buffered_input": 256 * KIB,
        "max_spooled_input": 64 * MIB,
        "max_buffered_output": 64 * KIB,
        "max_connections": 1024,
        "params_timeout": 30.0,
        "idle_timeout": 300.0,
        "read_timeout": 300.0,
        "write_timeout": 60.0,
        "linger_timeout": 5.0,
        "graceful_timeout": 30.0,
    }

    def __init__(self, **bounds: float) -> None:
        super().__init__(**bounds)
        if self.max_requests_per_connection > 65535:
            raise ConfigurationError("max_requests_per_connection: FastCGI has 65535 request ids, give no more")


def given_limits(limits: Bounds | None, kind: type[Bounds]) -> Bounds:
    """What was given as limits of this `kind`, None for the defaults; ConfigurationError if these are none."""
    if limits is None:
        return kind()
    if not isinstance(limits, kind):
        told = f"limits={limits!r}: give {kind.__name__}(max_connections=..., ...), of simple_fastcgi.limits"
        raise ConfigurationError(told)
    return limits


class ClientLimits(_Bounds):
    """What a client grants the application that it calls. All arguments are keywords; instances never change.

    ``max_connections`` (default 100)
        Connections to one application at once, in use or kept. Beyond: a request waits until
        one is free.
    ``max_keepalive_connections`` (default 20)
        Connections that are kept open without a request. Beyond: one that becomes free is
        closed. PHP-FPM gives each connection a process of its own, which serves nobody else
        as long as it is open.
    ``max_head_bytes`` (bytes, default 64 KiB)
        The head of a response. Beyond: the response is given up with
        :class:`~simple_fastcgi.errors.ResponseHeadError`.
    ``max_head_fields`` (default 500)
        Header fields of a response. Beyond: the same.
    ``max_stderr_bytes`` (bytes, default 64 KiB)
        FCGI_STDERR of one request that is kept for whoever asks for it behind the response.
        Beyond: it is only counted.
    ``max_spooled_bytes`` (bytes, default 64 MiB)
        A request's body of unknown length for a script, which is received whole before it is
        sent, since PHP reads nothing without a length: in memory up to 256 KiB by a proxy, up to
        1 MiB by a transport, else in a temporary file (in TMPDIR). Beyond: the request is
        refused (413 of a proxy, httpx.LocalProtocolError of a transport).
    ``connect_timeout`` (seconds, default 5)
        From the attempt to connect until the connection is there.
    ``read_timeout`` (seconds, default 60)
        A wait for the next bytes of a response.
    ``write_timeout`` (seconds, default 60)
        A wait until more of a request can be sent.
    ``pool_timeout`` (seconds, default 5)
        A wait for one of ``max_connections``.
    ``keepalive_expiry`` (seconds, default 5)
        A kept connection without a request. Beyond: it is closed.

    Times are at most 1,000,000 seconds, which is 11 days. Raises
    :class:`~simple_fastcgi.errors.ConfigurationError` for an unknown name, a wrong type, or
    a value out of range.
    """

    __slots__ = (
        "connect_timeout",
        "keepalive_expiry",
        "max_connections",
        "max_head_bytes",
        "max_head_fields",
        "max_keepalive_connections",
        "max_spooled_bytes",
        "max_stderr_bytes",
        "pool_timeout",
        "read_timeout",
        "write_timeout",
    )

    max_connections: int
    max_keepalive_connections: int
    max_head_bytes: int
    max_head_fields: int
    max_stderr_bytes: int
    max_spooled_bytes: int
    connect_timeout: float
    read_timeout: float
    write_timeout: float
    pool_timeout: float
    keepalive_expiry: float

    DEFAULTS = {
        "max_connections": 100,
        "max_keepalive_connections": 20,
        "max_head_bytes": 64 * KIB,
        "max_head_fields": 500,
        "max_stderr_bytes": 64 * KIB,
        "max_spooled_bytes": 64 * MIB,
        "connect_timeout": 5.0,
        "read_timeout": 60.0,
        "write_timeout": 60.0,
        "pool_timeout": 5.0,
        "keepalive_expiry": 5.0,
    }


def _checked(name: str, value: object, default: float) -> float:
    whole = isinstance(default, int)
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        wanted = "a whole number" if whole else "a number of seconds"
        raise ConfigurationError(f"{name}={value!r}: give {wanted}")
    assert isinstance(value, int | float)
    # Not "value <= 0": a NaN must be refused too.
    if not value > 0:
        raise ConfigurationError(f"{name}={value!r}: give a number above 0")
    if not whole and value > MAX_SECONDS:
        raise ConfigurationError(f"{name}={value!r}: give at most {MAX_SECONDS} seconds")
    return value if whole else float(value)
