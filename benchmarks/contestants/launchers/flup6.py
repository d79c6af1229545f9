"""flup6 has no command line: python flup6.py MODULE:ATTR SOCKET.

It has a thread for each connection; with fewer it refuses connections instead of keeping them waiting.
"""

from __future__ import annotations

import sys

from load_app import load_app

if __name__ == "__main__":
    from flup.server.fcgi import WSGIServer

    app, path = sys.argv[1:]
    WSGIServer(load_app(app), bindAddress=path, debug=False, umask=0).run()
