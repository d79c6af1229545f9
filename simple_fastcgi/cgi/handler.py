"""What synchronous and asynchronous handlers have in common: nothing of it waits."""

from __future__ import annotations

from ..errors import ConfigurationError
from ..protocol.constants import FCGI_AUTHORIZER, FCGI_FILTER, FCGI_RESPONDER
from ..protocol.roles import check_roles
from .environ import native_environ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_ROLE_NAMES = {FCGI_RESPONDER: "Responder", FCGI_AUTHORIZER: "Authorizer", FCGI_FILTER: "Filter"}


class UnservedRoles:
    """Requests in roles that `handler` does not serve: `tell` is told of each such role once, and all have an answer.

    FCGI_UNKNOWN_ROLE alone is none to web servers: Apache makes an empty 200 of it, HAProxy waits, and lighttpd takes
    the silence of whom it asked for an Authorizer for consent.
    """

    def __init__(self, handler: type[BaseHandler], tell: Callable[..., object]) -> None:
        self._handler = handler
        self._tell = tell
        self._told: set[str] = set()

    def __call__(self, role: int) -> bytes:
        """The answer to a request in `role`: a 500, which says why."""
        name = _ROLE_NAMES.get(role, "unknown")
        if name not in self._told:
            self._told.add(name)
            self._tell(
                "requests in role %d (%s) are refused, for %s has roles = %r: add it there if the class can serve it, "
                "or have the web server ask in another role (told once)",
                *(role, name, self._handler.__qualname__, self._handler.roles),
            )
        reason = b"The application does not serve requests in FastCGI role %d.\n" % role
        return b"Status: 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + reason


class BaseHandler:
    """The roles of a handler class, and what the parameters tell of an instance's request."""

    _is_async: bool
    """For which kind of server a class is written; its mixins have this, too."""
    _needs_app = False
    """The class itself serves nothing: its ``for_app()`` makes those that do."""

    roles: tuple[int, ...] = (FCGI_RESPONDER,)
    """The FastCGI roles that this class serves; requests in others get a 500, and FCGI_UNKNOWN_ROLE."""

    request: Any
    _environ: dict[str, str] | None = None
    _has_head = False

    def _begin_response(self) -> None:
        """A head is about to be written; RuntimeError if there is one already, in whose body it would stand."""
        if self._has_head:
            raise RuntimeError("the response has its head already: only one can be sent for a request")
        self._has_head = True

    def _retract_response(self) -> None:
        """Nothing of the head that was about to be written will be: the handler may send another one."""
        self._has_head = False

    @property
    def environ(self) -> dict[str, str]:
        """The request's parameters (RFC 3875, 4.1), names in upper case, values decoded as UTF-8.

        Bytes that are no UTF-8 are kept as surrogate escapes: nothing raises and nothing is lost. The dict belongs to
        this handler and can be encoded as JSON as it is.
        """
        environ = self._environ
        if environ is None:
            core = self.request.core
            environ = self._environ = native_environ(core.params, core.repeated)
        return environ

    @property
    def role(self) -> int:
        """The role of this request: 1 Responder, 2 Authorizer, 3 Filter (FastCGI 1.0, section 6)."""
        role: int = self.request.core.role
        return role

    @property
    def data_length(self) -> int | None:
        """A Filter's: how many bytes `read_data()` will give (FCGI_DATA_LENGTH); None if that is not known.

        The end of the stream is the truth. If it disagrees, data is missing, and the specification (6.4) wants the
        response to say so, or an update not to be made: that is for the handler to decide.
        """
        from .filter import data_length

        return data_length(self.request.core.params)

    @property
    def data_last_mod(self) -> int | None:
        """A Filter's: when the data was modified (FCGI_DATA_LAST_MOD), in seconds since 1970 UTC; None if not known."""
        from .filter import data_last_mod

        return data_last_mod(self.request.core.params)


class PendingHead:
    """The head, until the first chunk is there; what is written by `handler` meanwhile is the shell's to put behind it.

    It is the shell's `write` that stands in place of the handler's until then.
    """

    __slots__ = ("_handler", "_head")

    def __init__(self, handler: Any, head: bytes) -> None:
        self._handler = handler
        self._head: bytes | None = head
        handler.write = self.write

    write: Any

    def take(self) -> bytes | None:
        """The head, which is to be written now; None if it was."""
        head, self._head = self._head, None
        if head is not None:
            del self._handler.write
        return head

    def retract(self) -> None:
        """There is no such response, unless some of it was written."""
        if self.take() is not None:
            self._handler._retract_response()


# What a call of a function gives, by the flags of its code; the module inspect takes long to import.
_GENERATOR = 0x20
_COROUTINE = 0x80
_AWAITABLE_GENERATOR = 0x100
_ASYNC_GENERATOR = 0x200


def check_handler(handler: object, base: type[BaseHandler], *, runs_handle: bool = True) -> None:
    """Raise ConfigurationError if a server whose handlers are derived from `base` can serve nothing with `handler`.

    So it is with roles that are none, with what is written for the other kind of server, with a ``handle`` whose work
    nobody would do, and with a gateway that has no application. `runs_handle`: false for a server that runs it in a way
    of its own.
    """
    check_roles(handler)
    if isinstance(handler, type):
        _check_kind(handler, base._is_async)
        if vars(handler).get("_needs_app") and not hasattr(handler, "app"):
            name = handler.__qualname__
            raise ConfigurationError(f"{name} has no application: give the server {name}.for_app(app)")
        if runs_handle:
            _check_handle(handler, base)


def _check_kind(handler: type, is_async: bool) -> None:
    strangers = [each for each in handler.__mro__ if vars(each).get("_is_async", is_async) is not is_async]
    if strangers:
        own, other = ("Async", "") if is_async else ("", "Async")
        raise ConfigurationError(
            f"{handler.__qualname__} has {strangers[-1].__name__} among its bases: {own}FcgiServer takes "
            f"{own}FcgiHandler, with {own}HttpResponseMixin or {own}AuthorizerMixin, and {other}FcgiServer takes "
            f"{other}FcgiHandler and its mixins"
        )


_AROUND_HANDLE = ("__new__", "__init__", "setup", "finish")


def _check_handle(handler: type, base: type[BaseHandler]) -> None:
    if any(getattr(handler, name, None) is not getattr(base, name, None) for name in _AROUND_HANDLE):
        # One that makes itself in its own way, or does something around it, may run it in its own way.
        return
    flags = getattr(getattr(getattr(handler, "handle", None), "__code__", None), "co_flags", 0)
    name = f"{handler.__qualname__}.handle"
    if flags & _ASYNC_GENERATOR or (flags & _GENERATOR and not flags & _AWAITABLE_GENERATOR):
        raise ConfigurationError(f"{name} is a generator function, which would not be run: write it without yield")
    if flags & (_COROUTINE | _AWAITABLE_GENERATOR) and not base._is_async:
        raise ConfigurationError(
            f"{name} is a coroutine function, which would not be run: write def handle, or take AsyncFcgiHandler and "
            "AsyncFcgiServer"
        )
