"""``--workers auto`` and ``--threads auto``: as many as the machine, or what its cgroup leaves of it, can have."""

from __future__ import annotations

from ..net import FCGI_LISTENSOCK_FILENO, is_listening
from .settings import AUTO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from types import SimpleNamespace

_OLDEST_GUNICORN = 25


def choose(arguments: Namespace | SimpleNamespace) -> tuple[int, int | None, str, str]:
    """Workers and threads, the machine that they are chosen for, and why there is one worker where it can have more.

    The threads of one process that nobody told are None: it chooses them itself, once it knows whether it needs any.
    The two texts are empty where nothing is to be said.
    """
    workers, threads = arguments.workers, arguments.threads
    told = None if threads == AUTO else threads
    if workers == AUTO and (why := _why_one(arguments)) is not None:
        if why:
            from ..serving.machine import this_machine

            machine = this_machine()
            count = machine.workers()
            why = f"one process, where {machine} allow {count}: {why}" if count > 1 else ""
        return 1, told, "", why
    if workers != AUTO and (told is not None or workers <= 1):
        return workers, told, "", ""
    from ..serving.machine import this_machine

    machine = this_machine()
    if workers == AUTO:
        workers = machine.workers()
    if workers > 1 and told is None:
        told = machine.threads(workers)
    return workers, told, str(machine), ""


def _why_one(arguments: Namespace | SimpleNamespace) -> str | None:
    """None if there can be several processes; else why not, which is empty where that surprises nobody."""
    bind = arguments.bind
    if bind is None:
        from ..net.activation import is_activated

        if is_listening(FCGI_LISTENSOCK_FILENO) or not is_activated():
            # Whoever left the socket on fd 0 decides how many there are; or else there is the one request of plain CGI.
            return ""
    elif bind.startswith("fd:"):
        return ""
    if arguments.reload_on_touch:
        return "--reload-on-touch is for one"
    return _why_no_gunicorn()


def _why_no_gunicorn() -> str | None:
    try:
        from gunicorn import version_info
    except ImportError:
        return "several need gunicorn: pip install 'simple_fastcgi[gunicorn]'"
    if version_info < (_OLDEST_GUNICORN,):
        version = ".".join(map(str, version_info))
        return f"several need gunicorn {_OLDEST_GUNICORN}, this is {version}: pip install -U 'simple_fastcgi[gunicorn]'"
    return None
