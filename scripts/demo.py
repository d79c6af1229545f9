"""Shows the Flask example in a browser: over FastCGI, by the development server, until Ctrl+C."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "flask_app"
USUAL_PORT = 8000


def choose_port(wanted: int | None) -> int:
    """Give the port that was asked for, or else the usual one if it is free, or else any."""
    if wanted is not None:
        return wanted
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", USUAL_PORT))
        return USUAL_PORT
    return 0


def main() -> None:
    """Read the command line, and become the development server."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--port", type=int, help=f"port on 127.0.0.1 (default: {USUAL_PORT}, or any if it is taken)")
    http = f"127.0.0.1:{choose_port(parser.parse_args().port)}"
    os.chdir(EXAMPLE)
    os.execv(sys.executable, [sys.executable, "-m", "simple_fastcgi", "dev", "app:app", "--http", http])


if __name__ == "__main__":
    main()
