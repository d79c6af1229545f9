"""``--workers auto`` and ``--threads auto``: as many as the machine, or what its cgroup leaves of it, can have."""

from __future__ import annotations

from ..log import info
from ..net import FCGI_LISTENSOCK_FILENO, is_listening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from types import SimpleNamespace

AUTO = "auto"


def number_or_auto(text: str) -> int | str:
    """A whole number, or "auto", as an option's value; ValueError for anything else."""
    return AUTO if text == AUTO else int(text)


def choose(arguments: Namespace | SimpleNamespace) -> tuple[int, int, str]:
    """Workers, threads, and a sentence that says what was chosen, which is empty where both were told."""
    workers, threads = arguments.workers, arguments.threads
    if AUTO not in (workers, threads):
        return workers, threads, ""
    from ..serving.machine import this_machine

    machine = this_machine()
    why = f"for {machine}"
    if workers == AUTO:
        one = _why_one(arguments)
        workers = 1 if one else machine.workers()
        why = f"{why}; one worker, as {one}" if one else why
    if threads == AUTO:
        threads = machine.threads(max(1, workers))
    return workers, threads, f"auto: --workers {workers} --threads {threads} {why}"


def tell(chosen: str) -> None:
    """Log what :func:`choose` says."""
    if chosen:
        info("%s", chosen)


def _why_one(arguments: Namespace | SimpleNamespace) -> str:
    """Why there can be one process only; nothing if there can be several."""
    from importlib.util import find_spec

    if arguments.reload_on_touch:
        return "--reload-on-touch is for one process"
    if arguments.bind is None:
        if is_listening(FCGI_LISTENSOCK_FILENO):
            return "whoever left the socket on fd 0 decides how many processes there are"
        from ..net.activation import is_activated

        if not is_activated():
            return "there is no --bind"
    if find_spec("gunicorn") is None:
        return "several need gunicorn: pip install 'simple_fastcgi[gunicorn]'"
    return ""
