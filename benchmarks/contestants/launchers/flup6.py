"""flup6 has no command line: python flup6.py MODULE:ATTR SOCKET THREADS."""

from __future__ import annotations

import sys

from load_app import load_app

if __name__ == "__main__":
    from flup.server.fcgi import WSGIServer

    app, path, threads = sys.argv[1:]
    pool = {"minSpare": 1, "maxSpare": int(threads), "maxThreads": int(threads)}
    WSGIServer(load_app(app), bindAddress=path, debug=False, umask=0, **pool).run()
