"""fcgisgi has no command line: python fcgisgi_asgi.py MODULE:ATTR SOCKET. On uvloop, its fastest."""

from __future__ import annotations

import sys

import uvloop
from fcgisgi import run_asgi_server
from load_app import load_app

if __name__ == "__main__":
    app, path = sys.argv[1:]
    uvloop.run(run_asgi_server(load_app(app), bind_address=path))
