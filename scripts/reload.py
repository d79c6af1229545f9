"""Load through nginx and HAProxy while workers are reloaded, killed and upgraded; fails if a request is lost."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.workers.reload import run


def main() -> int:
    """Run what the command line names, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="for how long each (default: 30)")
    parser.add_argument("--requests", type=int, default=20_000, help="and until there were so many (default: 20000)")
    parser.add_argument("--hup", type=float, default=2.0, help="seconds between two SIGHUP (default: 2)")
    parser.add_argument("--kill", type=float, default=3.0, help="seconds between two SIGKILL (default: 3)")
    parser.add_argument("--front", choices=("nginx", "haproxy"), action="append", help="default: both")
    parser.add_argument("--interface", choices=("wsgi", "asgi"), action="append", help="default: both")
    parser.add_argument("--transport", choices=("unix", "tcp"), action="append", help="default: unix")
    parser.add_argument("--by", choices=("gunicorn", "serve", "deploys"), action="append", help="default: gunicorn")
    given = parser.parse_args()
    lost = 0
    for by in given.by or ["gunicorn"]:
        for transport in given.transport or ["unix"]:
            for front in given.front or ["nginx", "haproxy"]:
                for interface in given.interface or ["wsgi", "asgi"]:
                    with tempfile.TemporaryDirectory(dir="/tmp", prefix="reload-") as folder:
                        result = run(
                            front,
                            interface,
                            Path(folder),
                            by=by,
                            transport=transport,
                            seconds=given.seconds,
                            least=given.requests,
                            hup=given.hup,
                            kill=given.kill,
                        )
                    print(f"{by} {interface} behind {front} ({transport}): {result}", flush=True)
                    for why in result.lost[:20]:
                        print(f"    {why}")
                    lost += len(result.lost)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
