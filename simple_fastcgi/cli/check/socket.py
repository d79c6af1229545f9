"""The checks of an application on its socket, in order."""

from __future__ import annotations

import os
import stat
import time
from contextlib import ExitStack
from socket import MSG_WAITALL

from ...client import target
from ...client.connection import open_socket
from ...errors import ConfigurationError, ProtocolError
from ...net.access import user_name
from ...net.unix import SocketFile
from ...protocol.webserver_events import ValuesReceived
from ..call import status
from ..call.response import explain_php
from ..call.status import CallError
from ..call.url import quote
from ..call.values import ask_values
from .application import Application
from .permissions import User, find_obstacles
from .report import ok, problem, warning
from .seen import read_seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from ...net.address import BindAddress
    from ..call.transfer import Link
    from .application import Reply
    from .report import Finding

CHECKS = ("socket file", "web server user", "connection", "FastCGI", "answer", "mount point", "keep-alive", "values")
"""By their names."""
_VALUES_TIMEOUT = 2.0
_HTTP_TIMEOUT = 2.0
_HTTP = b"HTTP/"
_PRIVATE_FOLDERS = ("/tmp/", "/var/tmp/")  # noqa: S108 - which systemd gives to each service anew
_START = "simple-fastcgi serve MODULE:ATTR --bind"


def plan(arguments: Namespace) -> Callable[[], Iterator[tuple[str, Finding]]]:
    """What runs the checks that `arguments` ask for; ConfigurationError for what cannot be asked."""
    address = _address(arguments.target)
    root_path = arguments.root_path
    path = arguments.path or "/"
    if not path.startswith("/"):
        raise ConfigurationError(f"--path {path!r}: it begins with a slash")
    asked = quote(os.fsencode((root_path or "").rstrip("/") + path))
    if root_path and not asked.startswith(b"/"):
        asked = b"/" + asked
    try:
        application = Application(
            address, asked, root_path=root_path, script=arguments.script, timeout=arguments.timeout
        )
    except ConfigurationError as error:
        raise ConfigurationError(_as_options(str(error))) from None
    except ValueError as error:
        raise ConfigurationError(f"--path {path!r}: {error}") from None
    user = None if arguments.web_server_user is None else User.named(arguments.web_server_user)
    return lambda: _run(application, user)


def _address(text: str) -> BindAddress:
    try:
        return target.parse_target(text)
    except ConfigurationError as error:
        cure = str(error).removeprefix("address ")
        raise ConfigurationError(f"URL-or-SOCKET {cure}; a URL begins with http:// or https://") from None


def _as_options(text: str) -> str:
    for name in ("root_path", "script"):
        text = text.replace(f"{name}=", f"--{name.replace('_', '-')} ")
    return text


def _run(application: Application, user: User | None) -> Iterator[tuple[str, Finding]]:
    address = application.address
    yield "socket file", (found := _socket_file(address))
    if found.final:
        return
    yield "web server user", _web_server_user(address, user)
    yield "connection", (found := _connection(address, application.timeout))
    if found.final:
        return
    with ExitStack() as stack:
        try:
            link = application.connect()
            stack.callback(link.close)
            reply = application.get(link)
        except CallError as error:
            yield "FastCGI", _no_reply(error, application)
            return
        yield "FastCGI", ok("it speaks FastCGI")
        yield "answer", _answer(reply, application)
        yield "mount point", _mount_point(reply, application)
        yield "keep-alive", _keep_alive(reply, link, application)
    yield "values", _values(application)


def _socket_file(address: BindAddress) -> Finding:
    if address.kind != "unix":
        return ok("there is none: TCP" if address.kind == "tcp" else "there is none: an abstract socket")
    path = os.path.abspath(address.path)
    try:
        facts = os.stat(path)
        if stat.S_ISSOCK(facts.st_mode):
            return ok(SocketFile(path).describe())
    except PermissionError:
        user = User.of_this_process()
        return problem(
            f"this user ({user.name}) cannot look so far: {path}",
            "a folder above it is closed to this user",
            "ask as root, or as the application's user: sudo simple-fastcgi check ...",
            final=True,
        )
    except OSError as error:
        folder = os.path.dirname(path)
        if isinstance(error, NotADirectoryError) or not os.path.isdir(folder):
            return problem(
                f"there is no folder {folder}",
                "so there can be no socket in it; what is below /run is gone after a restart of the machine",
                f"create it (systemd: RuntimeDirectory={os.path.basename(folder)}), and start the application",
                final=True,
            )
        return problem(
            f"there is no socket file {path}",
            "the application is not running, or listens at another address",
            f"start it: {_START} {address}; see who listens where: ss -lxp",
            final=True,
        )
    return problem(
        f"{path} is no socket",
        "a file or folder is in the socket's place",
        "remove it, or choose another path; then start the application",
        final=True,
    )


def _web_server_user(address: BindAddress, user: User | None) -> Finding:
    if address.kind != "unix":
        return ok("every user of this machine may connect: there are no permissions")
    if user is None:
        return ok("not asked: --web-server-user www-data tells whether the web server may connect")
    path = os.path.abspath(address.path)
    try:
        obstacles = list(find_obstacles(path, user))
    except OSError as error:
        return problem(
            f"it cannot be told whether {user.name} may connect",
            f"this user cannot look at {error.filename or path}",
            "ask as root: sudo simple-fastcgi check ...",
        )
    if not obstacles:
        if path.startswith(_PRIVATE_FOLDERS):
            return warning(
                f"{user.name} may connect, if it sees the file",
                "web servers that systemd starts with PrivateTmp=yes have a /tmp of their own (Apache in Debian)",
                "put the socket into a folder of its own below /run (systemd: RuntimeDirectory=)",
            )
        return ok(f"{user.name} may connect")
    why = ". ".join(obstacle.why for obstacle in obstacles)
    cure = "; ".join(obstacle.cure for obstacle in obstacles)
    if all(obstacle.has_acl for obstacle in obstacles):
        return warning(
            f"{user.name} may connect only if an access control list grants it",
            f"{why}. It has an access control list, which is not looked at here",
            f"see it with getfacl; try: sudo -u {user.name} simple-fastcgi check {address}",
        )
    return problem(f"{user.name} may not connect", why, cure)


def _connection(address: BindAddress, timeout: float) -> Finding:
    begin = time.monotonic()
    try:
        open_socket(address, timeout).close()
    except OSError as error:
        return _not_connected(error, address, timeout)
    return ok(f"{address} takes connections ({(time.monotonic() - begin) * 1000:.1f} ms)")


def _not_connected(error: OSError, address: BindAddress, timeout: float) -> Finding:
    told = target.explain(error, address)
    if isinstance(error, TimeoutError) and error.errno is None:
        told, _, why = target.explain_timeout(timeout, address, "--timeout").partition(": ")
        return problem(told, why, "restart the application; give it more threads or processes", final=True)
    if isinstance(error, ConnectionRefusedError):
        if address.kind == "unix":
            return problem(
                "nobody listens on this socket file (connection refused)",
                "the application has ended, and left the file behind",
                f"start it, which replaces the file: {_START} {address}",
                final=True,
            )
        return problem(
            f"nobody listens at {address} (connection refused)",
            "the application is not running, or listens at another address",
            f"start it: {_START} {address}; see who listens where: ss -ltnp",
            final=True,
        )
    if isinstance(error, PermissionError) and address.kind == "unix":
        obstacle = next(find_obstacles(os.path.abspath(address.path), User.of_this_process()), None)
        name = user_name(os.geteuid())
        return problem(
            f"this user ({name}) may not connect",
            "the system forbids it (SELinux, AppArmor)" if obstacle is None else obstacle.why,
            "look into the audit log: ausearch -m avc" if obstacle is None else obstacle.cure,
            final=True,
        )
    return problem(told, "the system says so", "correct the address; see who listens where: ss -lxtp", final=True)


def _no_reply(error: CallError, application: Application) -> Finding:
    address = application.address
    told = str(error).removeprefix(f"{address}: ").removeprefix(f"--max-time is over: {address}: ")
    if "HTTP server" in told or (error.status == status.TIMEOUT and _speaks_http(address, application.timeout)):
        return problem(
            "this speaks HTTP, not FastCGI",
            "a web server, gunicorn, uvicorn or the like listens here",
            f"serve the application over FastCGI: {_START} {address}; or have it called with HTTP (nginx: proxy_pass)",
            final=True,
        )
    if error.status == status.TIMEOUT:
        return problem(
            f"no whole answer within --timeout: {told}",
            "the application hangs, all of its threads are busy, or this is no FastCGI server",
            "see what it does (py-spy dump), restart it, give it more threads",
            final=True,
        )
    if error.status == status.REFUSED:
        return problem(told, "it speaks FastCGI, and has no room", "give it more threads or processes", final=True)
    if error.status == status.EMPTY:
        return problem(
            # What else it may be stands below, in full.
            told.partition("; ")[0],
            "it crashed, allows other clients only (--allow-from, FCGI_WEB_SERVER_ADDRS; PHP-FPM: "
            "listen.allowed_clients), or is no FastCGI server",
            "look into the application's log, which names the peer that simple_fastcgi refused, and the list",
            final=True,
        )
    return problem(
        told, "what listens here speaks no FastCGI, or crashes", "look into its log; correct the address", final=True
    )


def _speaks_http(address: BindAddress, timeout: float) -> bool:
    """Whether HTTP is answered: what waits for the end of a line, as many such servers do, says nothing to a record."""
    try:
        with open_socket(address, timeout) as sock:
            sock.settimeout(min(timeout, _HTTP_TIMEOUT))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return sock.recv(len(_HTTP), MSG_WAITALL) == _HTTP
    except OSError:
        return False


def _answer(reply: Reply, application: Application) -> Finding:
    url = application.params["REQUEST_URI"]
    told = f"{url} is answered {reply.status} {reply.reason}".rstrip() + f" in {reply.seconds * 1000:.0f} ms"
    hint = explain_php(application.params.get("SCRIPT_FILENAME"), reply.body, reply.stderr)
    if hint is not None:
        why, _, cure = hint.partition(": ")
        return problem(told, why, cure.replace("--document-root DIR or ", "") or "rename the file")
    lines = reply.stderr.decode("utf-8", "replace").strip().splitlines()
    if reply.status >= 500:
        why = f"it says on FCGI_STDERR: {lines[-1].strip()}" if lines else "it says nothing on FCGI_STDERR"
        return problem(told, why, "look into the application's log for the traceback")
    if reply.status == 404:
        return warning(told, "the application knows no such path", "name another one: --path, --root-path")
    return ok(told, f"it says on FCGI_STDERR: {lines[-1].strip()}" if lines else "")


def _mount_point(reply: Reply, application: Application) -> Finding:
    if "SCRIPT_FILENAME" in application.params:
        return ok("a script has none")
    root = application.params["SCRIPT_NAME"].encode("latin-1").decode("utf-8", "replace")
    seen = read_seen(reply.body)
    if seen is None:
        return ok(f"asked at {root or '/'}; what the application makes of it only the probe can tell")
    if seen.root_path == root:
        return ok(f"the application takes itself to be mounted at {root or '/'}, as it is asked")
    return problem(
        f"the application takes itself to be mounted at {seen.root_path or '/'}, not at {root or '/'}",
        "it was started with another --root-path than it is asked for here",
        f"serve it with --root-path {root or '/'}, or with none; or ask with --root-path {seen.root_path or '/'}",
    )


def _keep_alive(reply: Reply, link: Link, application: Application) -> Finding:
    if reply.reusable:
        try:
            application.get(link)
        except CallError:
            pass
        else:
            return ok("two requests on one connection are answered")
    return warning(
        "the application closes the connection behind its answer",
        "FCGI_KEEP_CONN asked it to keep it: each request has to connect anew",
        "serve it with simple-fastcgi serve; a web server must not have keep-alive switched on for it",
    )


def _values(application: Application) -> Finding:
    deadline = time.monotonic() + min(application.timeout, _VALUES_TIMEOUT)
    with ExitStack() as stack:
        try:
            link = application.connect()
            stack.callback(link.close)
            event = ask_values(link, deadline)
        except (CallError, OSError, ProtocolError):
            event = None
    if isinstance(event, ValuesReceived) and event.values:
        return ok(", ".join(f"{name}={value}" for name, value in event.values.items()))
    return ok("FCGI_GET_VALUES is not answered, which does no harm: few web servers ask")
