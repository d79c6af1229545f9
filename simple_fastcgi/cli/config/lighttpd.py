"""lighttpd: it starts the application itself (``bin-path``), or connects to one that listens (``bind``)."""

from __future__ import annotations

import re

from .plan import WORKERS, Configuration, File, longest_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

_INDENT = "    "
_HEAD = """\
# {app} behind lighttpd{how}. Made by: simple-fastcgi config lighttpd

server.modules += ({modules})

"""
_STATIC = """\
$HTTP["url"] =~ "^{pattern}/" {{
    # Files that lighttpd serves without asking the application.
    alias.url = ("{url}/" => "{folder}/")
}}
"""
_MOUNTED = """\
$HTTP["url"] =~ "^{pattern}(/|$)" {{  # "{mount}" alone, as below, would have {mount}-and-more, too
{server}}}
"""
_ELSE = "{{\n{server}}}\n"
_SERVER = """\
server.max-request-size = {max_body_size}  # KiB that may be sent at once; by default there is no limit
# By default an answer is held back until it is complete: no events, no progress.
server.stream-response-body = 1
# An upload is complete before the application is asked: no slow visitor keeps it waiting. To hand it on
# while it arrives: server.stream-request-body = 1. Then one of unknown length (in chunks) gets a 411.

fastcgi.server = ("{key}" => ((
{place}
    "check-local" => "disable",  # there need not be files of such names
{root}    "connect-timeout" => 10,
    "write-timeout" => {timeout},
    "read-timeout" => {timeout}  # seconds of silence; by default it waits for ever
)))
"""
_ROOT = """\
    "fix-root-scriptname" => "enable",  # else a URL's first folder counts as the mount point
"""
_SPAWNED = """\
    "bin-path" => "{command}",
    "socket" => "{socket}",  # and -0, -1 ...: each process listens on its own
    "max-procs" => {workers},  # so many from the start; one that ends is started anew"""
_UNIX = '    "socket" => "{path}",'
_TCP = """\
    "host" => "{host}",
    "port" => {port},"""
_ADVICE = """\
Write it to {path}, then:
    lighty-enable-mod {name} && lighttpd -tt -f /etc/lighttpd/lighttpd.conf && systemctl restart lighttpd
"""
_ADVICE_SPAWNED = """\
lighttpd starts the application as its own user, who must be able to read {directory}
and to run {python}.
After a change of the code: systemctl reload lighttpd, which lets requests under way end.
Tracebacks of requests are in lighttpd's error log; what the application writes to standard error is where
lighttpd's own goes (journalctl -u lighttpd).
"""


def configure(plan: Plan) -> Configuration:
    """Make it."""
    spawned = plan.bind is None
    site = _application(plan)
    if plan.server_name:
        site = _within(f'$HTTP["host"] == "{plan.server_name}"', site)
    if plan.listen != "80":
        # The port 80 is lighttpd.conf's own.
        host, port = plan.listen_address
        site = _within(f'$SERVER["socket"] == "{host}:{port}"', site)
    modules = ("mod_fastcgi", "mod_alias") if plan.static else ("mod_fastcgi",)
    head = _HEAD.format(
        app=plan.app,
        how=", which starts it" if spawned else "",
        modules=", ".join(f'"{module}"' for module in modules),
    )
    path = f"/etc/lighttpd/conf-available/90-{plan.name}.conf"
    advice = _ADVICE.format(path=path, name=plan.name)
    if spawned:
        advice += _ADVICE_SPAWNED.format(directory=plan.directory, python=plan.python)
    else:
        advice += plan.how_to_run()
    return Configuration((File(path, head + site),), advice)


def _application(plan: Plan) -> str:
    """Which URLs are whose."""
    mount = plan.root_path
    server = _SERVER.format(
        max_body_size=plan.max_body_size << 10,
        key=mount or "/",
        place=_place(plan),
        root="" if mount else _ROOT,
        timeout=plan.timeout,
    )
    places = {
        url: _STATIC.format(url=url, pattern=re.escape(url), folder=folder.rstrip("/")) for url, folder in plan.static
    }
    if mount:
        places[mount] = _MOUNTED.format(mount=mount, pattern=re.escape(mount), server=_indented(server))
    elif places:
        places[mount] = _ELSE.format(server=_indented(server))
    else:
        return server
    return "else ".join(longest_first(places))


def _place(plan: Plan) -> str:
    """Where the application is, or what starts it."""
    if plan.bind is None:
        # The working directory would be that of the program.
        command = [*plan.command(listens=False), "--chdir", plan.directory]
        workers = plan.workers or WORKERS
        # It has to fit with its number behind it.
        socket = plan.socket_path(f"/run/lighttpd/NAME.sock-{workers - 1}").rpartition("-")[0]
        return _SPAWNED.format(command=" ".join(command), socket=socket, workers=workers)
    address = plan.address
    if address.kind == "unix":
        return _UNIX.format(path=address.path)
    return _TCP.format(host=address.host, port=address.port)


def _within(condition: str, text: str) -> str:
    return f"{condition} {{\n{_indented(text)}}}\n"


def _indented(text: str) -> str:
    return "".join(_INDENT + line if line.strip() else line for line in text.splitlines(keepends=True))
