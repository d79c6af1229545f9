"""Caddy: a site with ``reverse_proxy`` and ``transport fastcgi``."""

from __future__ import annotations

from textwrap import indent

from ...errors import ConfigurationError
from .plan import Configuration, File, longest_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

_SITE = """\
# {app} behind Caddy. Made by: simple-fastcgi config caddy

{about}
{site} {{{bind}
    request_body {{
        max_size {max_body_size}MiB # Caddy by itself lets uploads of any size in
    }}
{places}}}
"""
_APPLICATION = """{matcher}
    handle {matched}{{
        reverse_proxy {upstream} {{
            transport fastcgi {{{split}
                # Tracebacks go to Caddy's log, from Caddy 2.7 on. The application's own log has them with any.
                capture_stderr

                # No read_timeout: it would end each answer that takes longer from its first byte to its last, also
                # downloads and streams of events, and visitors would take what they have for the whole.
            }}

            # Each piece of an answer goes to the visitor at once.
            flush_interval -1

            # Caddy 2.6 shows this line of the application's answer to visitors.
            header_down -Status
        }}
    }}
"""
_ROUTE = """
    # The first place that fits counts. Without it Caddy would ask for the application's last of all.
    route {{{places}    }}
"""
_NAMED = """\
# Caddy fetches a certificate for a site with a name and serves it over HTTPS, with a redirect from HTTP. For that the
# name must lead to this machine, and ports 80 and 443 must be reachable. Without HTTPS: http://{server_name}"""
_PLAIN = "# Without HTTPS, for any host name. With a name here instead of http://, Caddy fetches a certificate for it."
_NAMED_PLAIN = (
    "# On this port without HTTPS. With the name alone, without http:// and port, Caddy fetches a certificate."
)
_BIND = """
    bind {host}
"""
_STATIC = """
    handle_path {url}/* {{
        root * {folder}
        file_server # files that Caddy serves without asking the application
    }}
"""
_MATCHER = """
    @app path {mount} {mount}/*"""
_SPLIT = """
                # Tells where in the URL the application is, so that the URLs it makes begin with it.
                split {mount}
"""
_ADVICE = """\
Write it to /etc/caddy/Caddyfile, or to a file that is imported there, then:
    caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile && systemctl reload caddy
"""
_INDENT = "    "
_HTTPS = 443
_PORTS = (80, _HTTPS)


def configure(plan: Plan) -> Configuration:
    """Make it."""
    host, port = plan.listen_address
    if port == _HTTPS and not plan.server_name:
        # It would be http://:443, which Caddy refuses.
        raise ConfigurationError(
            f"--listen {plan.listen!r}: give --server-name, by which Caddy fetches the certificate"
        )
    if plan.server_name and port in _PORTS:
        site, about = plan.server_name, _NAMED.format(server_name=plan.server_name)
    else:
        site = f"http://{plan.server_name}:{port}"
        about = _NAMED_PLAIN if plan.server_name else _PLAIN
    text = _SITE.format(
        app=plan.app,
        about=about,
        site=site,
        bind=_BIND.format(host=host) if host else "",
        max_body_size=plan.max_body_size,
        places=_places(plan),
    ).replace(_INDENT, "\t")  # as "caddy fmt" has it: what is set in another way it complains of at each start
    advice = _ADVICE + plan.how_to_run()
    return Configuration((File("/etc/caddy/Caddyfile", text),), advice)


def _places(plan: Plan) -> str:
    """Which URLs are whose."""
    address, mount = plan.address, plan.root_path
    application = _APPLICATION.format(
        matcher=_MATCHER.format(mount=mount) if mount else "",
        matched="@app " if mount else "",
        upstream=f"unix/{address.path}" if address.kind == "unix" else str(address),
        split=_SPLIT.format(mount=mount) if mount else "",
    )
    places = {url: _STATIC.format(url=url, folder=folder) for url, folder in plan.static} | {mount: application}
    if any(mount.startswith(f"{url}/") for url, _ in plan.static):
        return _ROUTE.format(places=indent("".join(longest_first(places)), _INDENT))
    return "".join(places.values())
