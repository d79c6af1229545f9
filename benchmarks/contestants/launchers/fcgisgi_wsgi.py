"""fcgisgi has no command line: python fcgisgi_wsgi.py MODULE:ATTR SOCKET THREADS. On uvloop, its fastest."""

from __future__ import annotations

import sys

import uvloop
from fcgisgi import run_wsgi_server
from load_app import load_app

if __name__ == "__main__":
    app, path, threads = sys.argv[1:]
    uvloop.run(run_wsgi_server(load_app(app), bind_address=path, max_workers=int(threads)))
