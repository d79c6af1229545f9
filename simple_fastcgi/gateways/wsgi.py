"""`WsgiHandler`: runs a WSGI application (PEP 3333)."""

from __future__ import annotations

import sys
from io import BytesIO
from threading import local

from ..cgi.environ import describe_request
from ..cgi.request import DROPS_ERRORS
from ..cgi.wsgi import Environs
from ..log import about, count_error_handlers, logger, report_failure, write_to_stderr
from ..sync.handler import FcgiHandler
from .body import report_short_body
from .files import SMALL, FileWrapper, find_regular_file
from .input import BodyReader
from .response import BODILESS, BodyCounter, encode_application_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Any, Self, TextIO

    from ..sync.request import FcgiRequest

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class WsgiHandler(FcgiHandler):
    """Runs a WSGI application; :meth:`for_app` makes the handler class of one."""

    _needs_app = True
    app: WsgiApplication
    """The application, as a staticmethod."""
    root_path: str | None = None
    """The mount point if the operator tells it, as :func:`~simple_fastcgi.cgi.paths.normalize_root_path` gives it."""
    multiprocess: bool = True
    """``wsgi.multiprocess``: other processes may serve the same application, as web servers that spawn do."""
    run_once: bool = False
    """``wsgi.run_once``: this process serves one request only."""
    unbuffered_events: bool = True
    """Tell nginx not to buffer text/event-stream (``X-Accel-Buffering: no``)."""

    @classmethod
    def for_app(
        cls,
        app: WsgiApplication,
        *,
        root_path: str | None = None,
        multiprocess: bool = True,
        run_once: bool = False,
        unbuffered_events: bool = True,
    ) -> type[Self]:
        """A handler class that runs `app`, to be given to a server. The settings are those above.

        Raises ValueError for a `root_path` that cannot be one.
        """
        from ..cgi.paths import normalize_root_path

        return type(
            cls.__name__,
            (cls,),
            {
                "app": staticmethod(app),
                "root_path": None if root_path is None else normalize_root_path(root_path),
                "multiprocess": multiprocess,
                "run_once": run_once,
                "unbuffered_events": unbuffered_events,
            },
        )

    def __init_subclass__(cls) -> None:
        """Put together what is the same for every request."""
        super().__init_subclass__()
        constants = {
            "wsgi.version": (1, 0),
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
            "wsgi.multiprocess": cls.multiprocess,
            "wsgi.run_once": cls.run_once,
        }
        cls._settings = (
            tuple(
                Environs(cls.root_path, {**constants, "wsgi.multithread": multithread}) for multithread in (False, True)
            ),
            cls.unbuffered_events,
        )

    # Both at once, since what is a class's takes long to be found: what makes the environs on a server that is not, and
    # that is, multithreaded; `unbuffered_events`.
    _settings: tuple[tuple[Environs, ...], bool]
    _unbuffered_events: bool
    # What this call of the application answers: its head until that is sent, and what it promised of its body.
    _head: bytes | None
    _length: int | None = None
    _is_head_request: bool
    _bodiless = False
    _started: bool
    # Counts a body that does not come whole.
    _body: BodyCounter | None = None

    def handle(self) -> None:
        """Call the application and send what it returns."""
        request = self.request
        core = request.core
        environs, self._unbuffered_events = self._settings
        environ = environs[self.server.multithread].make(core.params, core.repeated, core.layout)
        stdin = core.stdin
        # Mostly all of it is there already. Asked in this order, since an abort, met by another thread, takes the end
        # away first.
        if not stdin.buffered and stdin.ended:
            environ["wsgi.input"] = BytesIO()
            if "CONTENT_LENGTH" in environ:
                report_short_body(core.params, 0)
        elif stdin.ended and (body := request.take_whole()):
            environ["wsgi.input"] = BytesIO(body)
            if environ.get("CONTENT_LENGTH") != str(len(body)):
                report_short_body(core.params, len(body))
        else:
            # More comes; or what lies in a file is too much for memory; or an abort was quicker, which it tells.
            environ["wsgi.input"] = BodyReader(request)
        environ["wsgi.errors"] = errors = ErrorStream()
        errors.request = request
        # Not defaults of the class, which take longer to be found.
        self._head = None
        self._started = False
        self._is_head_request = environ["REQUEST_METHOD"] == "HEAD"
        blocks = self.app(environ, self._start_response)
        if type(blocks) is list:
            if len(blocks) != 1 or not self._send_whole(blocks[0]):
                self._send_blocks(blocks, flush=False)
            return
        try:
            if type(blocks) is FileWrapper:
                self._send_blocks(self._send_file(blocks), flush=True)
            else:
                # A tuple has come whole, too: it may leave whole.
                self._send_blocks(blocks, flush=type(blocks) is not tuple)
        except BaseException:
            self._close_failed(blocks)
            raise
        if (close := getattr(blocks, "close", None)) is not None:
            # The response has ended and is what it is, whatever this raises.
            close()

    def _close_failed(self, blocks: Iterable[bytes]) -> None:
        """Close what could not be sent; an error of that must not hide what went wrong before."""
        try:
            if (close := getattr(blocks, "close", None)) is not None:
                close()
        except BaseException as error:
            request = self.request
            what = f"{describe_request(request.params)}: close() of the response"
            report_failure(error, what, aborted=False, fields=request.log_fields())

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's `start_response`; ValueError for what cannot be sent."""
        if exc_info is not None:
            try:
                if self._started:
                    if exc_info[1] is None:
                        # That of sys.exc_info() where nothing is being handled.
                        raise RuntimeError("start_response was called behind the head, with an empty exc_info")
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                # A circle of traceback and frame otherwise.
                exc_info = None
            self._body = None
        elif self._head is not None or self._started:
            raise RuntimeError("start_response was called a second time without exc_info")
        if type(status) is not str:
            raise TypeError(f"status {status!r}: give a str")
        self._head, self._length = encode_application_head(status, headers, self._unbuffered_events, self.request)
        self._bodiless = self._is_head_request or status.startswith(BODILESS)
        return self._write

    def _write(self, data: bytes) -> None:
        """PEP 3333's `write`: to the web server now."""
        self._send(data, flush=True)

    def _send_whole(self, data: bytes) -> bool:
        """Send the head, `data` and the end at once, if that is the response as it was promised."""
        head, length = self._head, self._length
        if head is None or type(data) is not bytes or self._bodiless or (length is not None and length != len(data)):
            return False
        self.request.end(0, data, head)
        return True

    def _send_blocks(self, blocks: Iterable[bytes], *, flush: bool) -> None:
        """Send what the application returned, each block as soon as it comes, and end the request."""
        rest = iter(blocks)
        for block in rest:
            if block:
                if self._length is not None and self._head is not None and self._send_whole(block):
                    # As most iterables give it: all in one. What comes behind it is too much.
                    self._head = None
                    self._started = True
                    self._length = 0
                    for excess in rest:
                        if excess:
                            self._send(excess, flush=False)
                    return
                self._send(block, flush=flush)
                if self._bodiless:
                    # What follows may have no end, and nothing would tell that nobody waits for it.
                    return
                if flush:
                    self._send_on(rest)
                    break
            elif flush and self.request.aborted():
                # It pauses, and nobody waits for it.
                raise ConnectionAbortedError("the web server aborted the request")
        if self._head is None and self._body is None:
            raise RuntimeError("the application returned without calling start_response")
        self._counter().check_end()
        if self._head is not None:
            self._send(b"", flush=False)
        self.request.end()

    def _send_on(self, blocks: Iterator[bytes]) -> None:
        """Send all that follows, each block at once; about most of a long body nothing is to be decided."""
        body, request = self._counter(), self.request
        while True:
            block, body.left = request.write_blocks(blocks, body.left)
            if block is None:
                return
            self._send(block, flush=True)

    def _send_file(self, wrapper: FileWrapper) -> Iterable[bytes]:
        """Have the kernel send a file that is worth it; of any other the blocks that are wanted."""
        if self._head is None and self._body is None:
            return wrapper
        body, request = self._counter(), self.request
        if body.suppressed:
            return ()
        found = find_regular_file(wrapper.file)
        if found is not None:
            descriptor, start, stop = found
            if body.left is not None:
                stop = min(stop, start + body.left)
            if stop - start > SMALL:
                head, self._head = self._head, None
                self._started = True
                request.write(head or b"")
                request.send_file(descriptor, start, stop)
                body.count(stop - start)
                return ()
        return wrapper.blocks(body.left)

    def _counter(self) -> BodyCounter:
        if self._body is None:
            self._body = BodyCounter(self._length, suppressed=self._bodiless)
        return self._body

    def _send(self, data: bytes, *, flush: bool) -> None:
        body, head = self._body, self._head
        if body is None:
            if head is None and not self._started:
                raise RuntimeError("the application sent a body before it called start_response")
            body = self._counter()
        if not isinstance(data, bytes):
            raise TypeError(f"the application sent {type(data).__name__} as its body instead of bytes")
        was_excess = body.excess
        data = body.take(data)
        if body.excess:
            if not was_excess:
                logger().error(
                    "%s: the response's body is longer than its Content-Length; the rest is dropped",
                    describe_request(self.request.params),
                    extra=about("body_too_long", self.request.log_fields()),
                )
            if not data and head is None:
                return
        if head is not None:
            self._head = None
            data = head + data
        if flush:
            self._started = True
        if body.complete:
            # It leaves with its end now, although the application may still have something to do.
            self.request.end(0, data)
        else:
            self.request.write(data, flush=flush)


class _Telling(local):
    """What this thread's call of the log has written to a `wsgi.errors`, as long as that call lasts."""

    returned: list[str] | None = None


_telling = _Telling()


class ErrorStream:
    """`wsgi.errors`: the web server's error log, and the log where that web server keeps none."""

    __slots__ = ("request",)

    # Set by whoever makes it: a constructor of Python's own would take as long as all of the rest.
    request: FcgiRequest

    def write(self, text: str) -> int:
        """To FCGI_STDERR; to the log behind the end of the request, and where nobody would see it otherwise."""
        if (returned := _telling.returned) is not None:
            returned.append(text)
            return len(text)
        core = self.request.core
        lost = core.ended or core.aborted
        if not lost:
            try:
                self.request.write_err(text.encode("utf-8", "backslashreplace"))
            except ConnectionError:
                lost = True
        lost = lost or core.params.get("SERVER_SOFTWARE", "").startswith(DROPS_ERRORS)
        if lost and text.strip():  # print() writes the end of a line by itself
            self._tell(text.rstrip("\n"))
        return len(text)

    def _tell(self, text: str) -> None:
        """Log `text`; what the log itself writes to such a stream meanwhile goes to standard error.

        Flask's documentation has the root logger write here: it would tell itself the same for ever.
        """
        log, returned = logger(), list[str]()
        _telling.returned = returned
        try:
            log.error("%s", text, extra=about("wsgi.errors", self.request.log_fields()))
            for line in _untold(text, tuple(returned), log) if returned else ():
                write_to_stderr(line.rstrip("\n") + "\n", _stderr())
        finally:
            _telling.returned = None

    def writelines(self, lines: Iterable[str]) -> None:
        """Each of `lines` in turn."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing: errors leave behind the output that they belong to, and at the end of the request."""


def _stderr() -> TextIO | None:
    """The process's own, where the application has put such a stream in its place."""
    return sys.__stderr__ if isinstance(sys.stderr, ErrorStream) else sys.stderr


def _untold(text: str, returned: Sequence[str], log: logging.Logger) -> Iterator[str]:
    """Those of `returned`, which `log` has written while it told `text`, that nobody else has told."""
    echoes = [line for line in returned if text in line]
    yield from (line for line in returned if text not in line and line.strip())
    if count_error_handlers(log) <= len(echoes):
        yield from echoes[:1]
