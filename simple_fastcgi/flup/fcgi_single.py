"""For ``flup.server.fcgi_single``: one request after the other."""

from __future__ import annotations

from ..protocol.constants import FCGI_RESPONDER
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
    """As :class:`simple_fastcgi.flup.WSGIServer`, but without threads."""

    def __init__(
        self,
        application: WsgiApplication,
        environ: Mapping[str, Any] | None = None,
        bindAddress: BindAddress = None,  # noqa: N803
        umask: int | None = None,
        multiplexed: bool = False,
        debug: bool = False,
        roles: Sequence[int] = (FCGI_RESPONDER,),
        *,
        scriptName: str | None = None,  # noqa: N803
        allow_from: AllowFrom | None = None,
        reload_on_touch: ReloadOnTouch = None,
        **others: object,
    ) -> None:
        super().__init__(
            application,
            environ,
            threads=1,
            multiprocess=self._is_one_of_many,
            bindAddress=bindAddress,
            umask=umask,
            debug=debug,
            roles=roles,
            scriptName=scriptName,
            allow_from=allow_from,
            reload_on_touch=reload_on_touch,
            others=others,
        )

    _is_one_of_many = False
