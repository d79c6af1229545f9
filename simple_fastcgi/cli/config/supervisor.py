"""supervisord: processes that share a socket, which supervisord opens."""

from __future__ import annotations

from ...errors import ConfigurationError
from .plan import GRACE, GUARDED, WORKERS, Configuration, File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

_PROGRAM = """\
; {app} over FastCGI. Made by: simple-fastcgi config supervisor

; An fcgi-program gets its socket from supervisord, all of its processes the same one: no --bind.
[fcgi-program:{name}]
socket={socket}
{access}command={command}
directory={directory}
user={user}
numprocs={workers}
process_name=%(program_name)s_%(process_num)d
autorestart=true
; TERM lets requests under way end: the application stops after {grace} s at the latest.
stopsignal=TERM
stopwaitsecs={stop}
; Messages and tracebacks: supervisorctl tail -f {name}:{name}_0
redirect_stderr=true
"""
_ACCESS = """\
; The web server has to be in the group.
socket_owner={user}:{group}
socket_mode=0660
"""
_FOLDER = """\
# The folder of {app}'s socket, at each start of the machine. Made by: simple-fastcgi config supervisor
d {folder} 0755 root root
"""
_ADVICE = """\
Write {files} (--output DIR writes {them}), then, as root:
{first}    supervisorctl update
New code: supervisorctl restart {name}:*
The web server connects to {address}.
"""


def configure(plan: Plan) -> Configuration:
    """Make it."""
    address = plan.address
    unix = address.kind == "unix"
    if ":" in address.host:
        raise ConfigurationError(
            f"--bind {address}: supervisord opens no IPv6 sockets: give unix:PATH, or an IPv4 address, for example "
            f"127.0.0.1:{address.port}"
        )
    text = _PROGRAM.format(
        app=plan.app,
        name=plan.name,
        socket=f"unix://{address.path}" if unix else f"tcp://{address}",
        access=_ACCESS.format(user=plan.user, group=plan.group) if unix else "",
        command=" ".join([*plan.command(listens=False, root_path=True), *plan.guard()]),
        directory=plan.directory,
        user=plan.user,
        workers=plan.workers or WORKERS,
        grace=GRACE,
        stop=GRACE + 10,
    )
    files = [File(f"/etc/supervisor/conf.d/{plan.name}.conf", text)]
    first = ""
    if plan.socket_folder:
        # Another name than the program's, as both may be written into one folder.
        path = f"/etc/tmpfiles.d/{plan.name}-socket.conf"
        files.append(File(path, _FOLDER.format(app=plan.app, folder=plan.socket_folder)))
        first = f"    systemd-tmpfiles --create {path}\n"
    advice = _ADVICE.format(
        files=" and ".join(file.path for file in files),
        them="them" if len(files) > 1 else "it",
        first=first,
        name=plan.name,
        address=address,
    )
    if plan.guard():
        advice += GUARDED
    return Configuration(tuple(files), advice)
