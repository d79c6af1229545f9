"""HAProxy: a frontend, a backend and the fcgi-app that the backend uses."""

from __future__ import annotations

import re
from dataclasses import replace

from ...errors import ConfigurationError
from .plan import Configuration, File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

BIND = "127.0.0.1:9000"
"""Where the application listens if nobody says: Debian's HAProxy, in its chroot, sees no socket file below /run."""

_SECTIONS = """\
# {app} behind HAProxy. Made by: simple-fastcgi config haproxy

frontend {name}
    mode http
    bind {listen}
    timeout client {timeout}s
{use_backend}

backend {name}
    mode http
    use-fcgi-app {name}
    timeout connect 5s
    timeout server {timeout}s  # while the application is silent

    # HAProxy lets bodies of any size in, but none without a length (chunked): it answers 400, unless all of it has come
    # before the application is asked. With this option it waits for that, as far as its buffer (16 KB) holds it.
    http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {max_body_bytes} }}
    option http-buffer-request
{redirect}
    server app {server} proto fcgi

fcgi-app {name}
    docroot /  # HAProxy asks for one; no file is looked for
    # The two groups are SCRIPT_NAME and PATH_INFO: they tell what part of the URL is the mount point.
    path-info ^({pattern})(/.*)$
    pass-header Authorization  # without it no application sees who logs in
    log-stderr global          # tracebacks go where "log" in the section global says
    option keep-conn           # connections to the application stay open
    # Leave "option mpxs-conns" out: with it HAProxy 2.6 now and then answers 500 by itself.
"""
_REDIRECT = """
    # The mount point without its slash looks like a page of an application at the root.
    http-request redirect code 308 location %[path]/%[query,regsub(^.,?\\0)] if {{ path {mount} }}
"""
_ACL = """\
    acl {name} path {mount}
    acl {name} path_beg {mount}/
"""
_ADVICE = """\
Append it to /etc/haproxy/haproxy.cfg; where a frontend has the port already, move the last lines of this one there.
Then:
    haproxy -c -f /etc/haproxy/haproxy.cfg && systemctl reload haproxy
"""
_CHROOT = """\
If the section global has "chroot DIR" (Debian's has /var/lib/haproxy), HAProxy looks for the socket below DIR. Take
that line out, or leave --bind out, for a port.
"""


def configure(plan: Plan) -> Configuration:
    """Make it."""
    if plan.static:
        url, folder = plan.static[0]
        raise ConfigurationError(
            f"--static {url or '/'}={folder}: HAProxy serves no files; leave the option out and let the application "
            "serve them (WhiteNoise for WSGI, StaticFiles of Starlette), or another web server behind HAProxy"
        )
    plan = replace(plan, bind=plan.bind or BIND)
    address = plan.address
    host, port = plan.listen_address
    text = _SECTIONS.format(
        app=plan.app,
        name=plan.name,
        listen=f"{host}:{port}",
        timeout=plan.timeout,
        max_body_bytes=plan.max_body_size << 20,
        redirect=_REDIRECT.format(mount=plan.root_path) if plan.root_path else "",
        use_backend=_use_backend(plan),
        server=f"unix@{address.path}" if address.kind == "unix" else str(address),
        pattern=re.sub(r"[.+]", r"\\\g<0>", plan.root_path),
    )
    advice = _ADVICE + plan.how_to_run()
    if address.kind == "unix":
        advice += _CHROOT
    return Configuration((File("/etc/haproxy/haproxy.cfg", text),), advice)


def _use_backend(plan: Plan) -> str:
    if not (plan.server_name or plan.root_path):
        return f"    default_backend {plan.name}"
    acl = _ACL.format(name=plan.name, mount=plan.root_path) if plan.root_path else ""
    host = f" {{ req.hdr(host),host_only,lower -m str {plan.server_name} }}" if plan.server_name else ""
    return f"{acl}    use_backend {plan.name} if{host}" + (f" {plan.name}" if acl else "")
