"""What scripts written for flup import: change ``flup.server`` into ``simple_fastcgi.flup``, and nothing else.

:mod:`.fcgi`, :mod:`.fcgi_fork` and :mod:`.fcgi_single` have a ``WSGIServer`` each, as in flup 1.0.3; the first one's is
here, too. docs/flup.md tells what becomes of each option.
"""

from __future__ import annotations

from .fcgi import WSGIServer

__all__ = ["WSGIServer"]
