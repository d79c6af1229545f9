"""A program begins anew because a file was touched: it ends for the web server to spawn it again, or replaces itself.

Who is to start it again is told by the parent process. Apache (mod_fcgid) gives each process a socket of its own, asks
another one where that refuses, and spawns when it needs to: there the process serves what waits for it, and ends.
Everywhere else, whether or not somebody would start it again, it replaces itself by the program's new code (`execve`):
the process stays, with its number and its listening socket, and what is in the listen queue waits for the new code.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

from ..errors import ConfigurationError
from ..log import info, logger
from ..net import FCGI_LISTENSOCK_FILENO, is_listening
from . import KEPT_SOCKET
from .refuse import refuse_more
from .signals import hold_signals, in_time, release_signals, take_held_signals, watch_for_stuck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..net import ListeningSocket
    from ..net.allow import AllowFrom
    from .touch import TouchedFiles

# Those that spawn anew, and of whose processes no two share a socket, by the beginning of their names.
_SPAWNERS = ("apache", "httpd")


class Restart:
    """Asks for the server's end when one of `files` is touched; then begins the program anew.

    `listening` is the server's socket, `spawned` says that it came on fd 0, where who started this process has put it;
    else `bind` is its address. `folder`: the current directory, from before the application could change it.
    `loads_app`: the application is loaded by :func:`serve`; before, it cannot start processes, which would inherit that
    stop signals are held meanwhile. `graceful_timeout`: seconds for requests under way; a second later the end comes
    even if a handler is stuck. Raises ConfigurationError outside of the main thread.
    """

    def __init__(
        self,
        files: TouchedFiles,
        listening: ListeningSocket,
        *,
        bind: str | None,
        spawned: bool,
        folder: str | None,
        loads_app: bool = False,
        graceful_timeout: float,
    ) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigurationError("reload_on_touch begins the whole program anew: call serve() in its main thread")
        self._files = files
        self._listening = listening
        self._bind = bind
        self._spawned = spawned
        self._loads_app = loads_app
        self._graceful_timeout = graceful_timeout
        self._folder = folder
        self.cut_off: Callable[[], object] = lambda: None
        """Tells which requests end with the process; whoever runs the server says so."""
        self._watch: threading.Timer | None = None
        self._ends = spawned and _parent_name().startswith(_SPAWNERS)

    def is_set(self) -> bool:
        """Whether the server is to end. To ask often costs nothing; ask every second, or more often."""
        if self._watch is None and (touched := self._files.look()) is not None:
            info("%s was touched: requests under way end, then the program begins anew", touched)
            self._watch = watch_for_stuck(self._graceful_timeout, self._give_up)
        return self._watch is not None

    def refuse_more(self) -> bool:
        """Have further connections refused if nobody else accepts them here; those that wait may still be accepted.

        Whether that is so. To be called when the server ends, behind a touch or a stop signal.
        """
        if not self._ends:
            return False
        # A stop signal has closed what `listening` had.
        with socket.socket(fileno=os.dup(FCGI_LISTENSOCK_FILENO)) as sock:
            return sock.family == socket.AF_UNIX and refuse_more(sock)

    def carry_out(self) -> None:
        """Replace this process, once its server has ended behind a touch; returns if it is to end instead.

        That is also so behind a stop signal, which has closed the socket.
        """
        if self._watch is not None:
            self._watch.cancel()
            if self._is_to_replace():
                self._replace()

    def holds_signals(self) -> bool:
        """Whether a stop signal that comes from now on is for the program that is to begin."""
        return self._watch is not None and self._loads_app and self._is_to_replace()

    def _is_to_replace(self) -> bool:
        return not self._ends and self._listening.fileno() >= 0

    def _give_up(self) -> None:
        in_time(self._tell_of_end)
        if self._is_to_replace():
            self._replace()
        os._exit(1)

    def _tell_of_end(self) -> None:
        logger().error(
            "beginning anew although a handler is still busy %g s after the touch (graceful_timeout)",
            self._graceful_timeout,
        )
        self.cut_off()

    def _replace(self) -> None:
        import atexit

        if self.holds_signals():
            # This thread may be another one.
            hold_signals()
        kept = ""
        if not self._spawned and not self._listening.pass_on():
            os.set_inheritable(self._listening.fileno(), True)
            kept = str(self._listening.fileno())
        os.environ[KEPT_SOCKET] = f"{os.getpid()}:{kept}:{self._bind or ''}"
        # What the program has asked for at its end.
        atexit._run_exitfuncs()
        try:
            self._execute([sys.executable, *sys.orig_argv[1:]])
        except OSError as error:  # pragma: no cover - measuring has ended with the exit functions
            os.environ.pop(KEPT_SOCKET, None)
            release_signals()
            logger().error("the program ends, since it cannot begin anew: %s: %s", sys.executable, error)

    def _execute(self, command: list[str]) -> None:  # pragma: no cover - the same
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        if (folder := _folder_of_script() or self._folder) is not None:
            os.chdir(folder)
        os.execv(command[0], command)  # noqa: S606


def kept_socket(bind: str | None, allow_from: AllowFrom | None) -> ListeningSocket | None:
    """The listening socket that this process has kept from before it replaced itself; None if there is none.

    Stop signals that were held meanwhile are noted from now on.
    """
    told = os.environ.pop(KEPT_SOCKET, None)
    if told is None:
        return None
    pid, _, rest = told.partition(":")
    number, _, address = rest.partition(":")
    if pid != str(os.getpid()):
        # The variable has come to another program.
        return None
    held = take_held_signals()
    if not number.isdecimal() or not is_listening(int(number)):
        return None
    from ..net.listen import resume_socket

    sock = socket.socket(fileno=int(number))
    sock.set_inheritable(False)
    if bind is not None and address == bind:
        try:
            listening = resume_socket(bind, sock, allow_from=allow_from)
            if held is not None:
                held.at_once = listening.close
            return listening
        except OSError:
            # The socket's file is gone.
            pass
    sock.close()
    return None


def _parent_name() -> str:
    """What the system calls the parent process; nothing where it does not tell that in this way."""
    try:
        with open(f"/proc/{os.getppid()}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:  # pragma: no cover - a system without /proc, or with one that tells nothing
        return ""


def _folder_of_script() -> str | None:
    """Where the command names its script from, if by a relative path: the program may have changed directory since."""
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if script is None or main.__spec__ is not None:
        return None
    # Python itself puts the folder in front of the name, and changes nothing else.
    name = next((word for word in sys.orig_argv[1:] if word[:1] != "/" and script.endswith(f"/{word}")), None)
    return None if name is None else script.removesuffix(name)
