"""For ``flup.server.fcgi``: requests run in threads."""

from __future__ import annotations

from ..protocol.constants import FCGI_RESPONDER
from ..serving.run import DEFAULT_THREADS
from .base import BaseServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..net.allow import AllowFrom
    from ..serving.touch import ReloadOnTouch
    from .base import BindAddress, WsgiApplication

__all__ = ["WSGIServer"]


class WSGIServer(BaseServer):
    """Takes the arguments of flup's; :meth:`run` serves `application`.

    `environ`: goes into each request's environ; a SCRIPT_NAME in it, or `scriptName`, is the mount point.
    `multithreaded`: if not, one request runs after the other. `multiprocess`: what ``wsgi.multiprocess`` says, which is
    true anyway on descriptor 0. `bindAddress`: the path of a unix socket, or a pair of host and port; None: the socket
    on descriptor 0. `umask`: for the mode of the unix socket (default: 0660). `maxThreads`: requests at once (default
    4). `multiplexed`: always on. What has no effect here gives a warning in the log.

    Of simple_fastcgi's own there are `allow_from`, who may connect over TCP, and `reload_on_touch`, as for
    :func:`simple_fastcgi.serve`. Raises :class:`~simple_fastcgi.errors.ConfigurationError` for values that cannot be.
    """

    def __init__(
        self,
        application: WsgiApplication,
        environ: Mapping[str, Any] | None = None,
        multithreaded: bool = True,
        multiprocess: bool = False,
        bindAddress: BindAddress = None,  # noqa: N803
        umask: int | None = None,
        multiplexed: bool = False,
        debug: bool = False,
        roles: Sequence[int] = (FCGI_RESPONDER,),
        *,
        maxThreads: int = DEFAULT_THREADS,  # noqa: N803
        scriptName: str | None = None,  # noqa: N803
        allow_from: AllowFrom | None = None,
        reload_on_touch: ReloadOnTouch = None,
        **others: object,
    ) -> None:
        super().__init__(
            application,
            environ,
            threads=maxThreads if multithreaded else 1,
            multiprocess=multiprocess,
            bindAddress=bindAddress,
            umask=umask,
            debug=debug,
            roles=roles,
            scriptName=scriptName,
            allow_from=allow_from,
            reload_on_touch=reload_on_touch,
            others=others,
        )
