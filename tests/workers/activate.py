"""Becomes gunicorn with a socket of systemd's: ``python -m tests.workers.activate DESCRIPTOR ARGUMENT...``."""

from __future__ import annotations

import os
import sys

os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *sys.argv[2:]])
