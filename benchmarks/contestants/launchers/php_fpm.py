"""PHP-FPM wants a configuration file: python php_fpm.py SOCKET. One worker process, as with the others."""

from __future__ import annotations

import glob
import os
import sys
from pathlib import Path

CONFIGURATION = """\
[global]
error_log = /dev/stderr
daemonize = no
[www]
listen = {socket}
listen.mode = 0666
listen.backlog = 1024
pm = static
pm.max_children = 1
{user}
"""


def program() -> str:
    """The newest that Debian has installed; its name ends with the version."""
    return max(glob.glob("/usr/sbin/php-fpm*"))


if __name__ == "__main__":
    socket = Path(sys.argv[1])
    file = socket.with_suffix(".conf")
    user = "user = root\ngroup = root" if os.geteuid() == 0 else ""
    file.write_text(CONFIGURATION.format(socket=socket, user=user))
    php = program()
    os.execv(php, [php, "-F", "-n", *(["-R"] if user else []), "-y", str(file)])
