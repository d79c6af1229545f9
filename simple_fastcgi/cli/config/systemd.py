"""systemd: a socket that is open from the start of the machine, and the service that serves it."""

from __future__ import annotations

import os
from ipaddress import ip_address
from itertools import accumulate

from ...errors import ConfigurationError
from ...net.address import format_tcp
from .plan import GRACE, GUARDED, Configuration, File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...net.address import BindAddress
    from .plan import Plan

_SOCKET = """\
# The socket of {app}. Made by: simple-fastcgi config systemd
# It is open before the application runs and while it restarts: who connects meanwhile waits.

[Unit]
Description=FastCGI socket of {app}

[Socket]
ListenStream={listen}
{access}
[Install]
WantedBy=sockets.target
"""
_ACCESS = """\
# The web server has to be in this group.
SocketUser={user}
SocketGroup={group}
SocketMode=0660
"""
_SERVICE = """\
# {app} over FastCGI. Made by: simple-fastcgi config systemd

[Unit]
Description={app} over FastCGI
Requires={name}.socket
After=network.target

[Service]
User={user}
WorkingDirectory={directory}
# systemd hands the socket over: no --bind.
ExecStart={command}
{reload}# Requests under way may end: the application stops after {grace} s at the latest.
KillMode=mixed
TimeoutStopSec={stop}
Restart=always
RestartSec=1

# What an application does not need. ProtectSystem: it cannot write below /usr, /boot and /etc; ProtectHome: it does not
# see /home; PrivateTmp: it has a /tmp of its own.
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateDevices=yes
ProtectSystem=full
{private}ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""
_RELOAD = """\
# "systemctl reload" replaces the processes one by one, with the new code.
ExecReload=/bin/kill -HUP $MAINPID
"""
_ADVICE = """\
Write the two files to /etc/systemd/system/ (--output DIR writes them), then:
    systemctl daemon-reload
    systemctl enable --now {name}.socket {name}.service
Its messages: journalctl -u {name}. New code: systemctl {verb} {name}.
The web server connects to {address}.
"""
_GUNICORN = """\
Several processes need gunicorn:
    {python} -m pip install "simple_fastcgi[gunicorn]"
"""
HIDDEN = {"ProtectHome": ("/home", "/root", "/run/user"), "PrivateTmp": ("/tmp", "/var/tmp")}  # noqa: S108
"""What hides folders, and which: an application that lives there has to do without."""

_MOST_LINKS = 40
"""That Linux follows on the way to a file."""


def configure(plan: Plan) -> Configuration:
    """Make it."""
    address = plan.address
    # One, unless told otherwise: several need more than this package. Always told: ExecReload= has to fit.
    workers = plan.workers or 1
    words = [*plan.command(listens=False, root_path=True), *plan.guard(), "--workers", str(workers)]
    several = workers > 1
    places = [*_on_the_way(plan.directory), *_on_the_way(plan.python)]
    socket = _SOCKET.format(
        app=plan.app,
        listen=address.path or _without_name(address),
        access=_ACCESS.format(user=plan.user, group=plan.group) if address.kind == "unix" else "",
    )
    service = _SERVICE.format(
        app=plan.app,
        name=plan.name,
        user=plan.user,
        directory=plan.directory,
        command=" ".join(words),
        reload=_RELOAD if several else "",
        grace=GRACE,
        stop=GRACE + 10,
        private="".join(
            f"{setting}=yes\n"
            for setting, folders in HIDDEN.items()
            if not any(_is_below(place, folder) for place in places for folder in folders)
        ),
    )
    advice = _ADVICE.format(name=plan.name, verb="reload" if several else "restart", address=address)
    if plan.guard():
        advice += GUARDED
    if several:
        advice += _GUNICORN.format(python=plan.python)
    folder = "/etc/systemd/system"
    return Configuration(
        (File(f"{folder}/{plan.name}.socket", socket), File(f"{folder}/{plan.name}.service", service)), advice
    )


def _on_the_way(path: str) -> Iterator[str]:
    """`path`, and where each link on the way to it leads: the system goes through all of these places."""
    for _ in range(_MOST_LINKS):
        yield os.path.normpath(path)
        places = accumulate(path.split("/"), "{}/{}".format)
        link = next(filter(os.path.islink, places), None)
        if link is None:
            break
        path = os.path.join(os.path.dirname(link), os.readlink(link)) + path[len(link) :]


def _is_below(place: str, folder: str) -> bool:
    """Whether `place` is `folder` or below it, which may be a link itself: some systems have their homes in /var."""
    return f"{place}/".startswith((f"{folder}/", f"{os.path.realpath(folder)}/"))


def _without_name(address: BindAddress) -> str:
    """`address` as a socket unit takes it, in which no host has a name."""
    host = "127.0.0.1" if address.host == "localhost" else address.host
    try:
        ip_address(host)
    except ValueError:
        raise ConfigurationError(
            f"--bind {address}: systemd takes no host names: give the address, for example 127.0.0.1:{address.port}"
        ) from None
    return format_tcp(host, address.port)
