"""Apache's mod_proxy_fcgi: a virtual host in front of an application that listens."""

from __future__ import annotations

import re

from .plan import Configuration, File, longest_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .plan import Plan

CONNECTIONS = 150
"""That Apache opens at most, for Debian's MaxRequestWorkers."""
_IDLE_SECONDS = 60

_SITE = """\
# {app} behind Apache's mod_proxy_fcgi. Made by: simple-fastcgi config apache-proxy

{listen}<VirtualHost {address}>
{server_name}
    # With a certificate (a2enmod ssl; the port above is 443 then):
    # SSLEngine on
    # SSLCertificateFile    /etc/ssl/{certificate}.pem
    # SSLCertificateKeyFile /etc/ssl/{certificate}.key

    # Without it Apache answers 404 to each URL that has a %2F in it.
    AllowEncodedSlashes On
{static}{slashless}
    # enablereuse: connections stay open. Each of Apache's processes has its own, one for each of its threads: up to
    #   MaxRequestWorkers in all ({connections} on Debian), for which the application has room (max_connections, 1024).
    # ttl: after so many seconds an idle one is not used again. The application closes it after 300.
    # retry: without it all requests are answered with 503 for a minute when the application was away once.
    # timeout: seconds, for the first piece of an answer, and between two.
    # flushpackets: each piece of an answer goes to the visitor at once.
    ProxyPass "{mount}/" "{upstream}/" \\
        enablereuse=on ttl={idle} retry=0 timeout={timeout} flushpackets=on

    <Location "{mount}/">
        # Without it Apache keeps back what the visitor's browser proves who it is with (Authorization).
        CGIPassAuth On
        # Without it Apache drops the length that the application tells, and browsers show no progress of a download.
        SetEnv ap_trust_cgilike_cl 1
        # Django (WSGI), Falcon and a2wsgi take an upload in chunks, which tells no length, for an empty one. With this
        # Apache stores it first, and tells its length; no application reads it while it arrives then.
        # SetEnv proxy-sendcl 1
    </Location>

    # Uploads of more than {max_body_size} MiB are refused. LimitRequestBody does nothing here, as Apache is a proxy.
{too_large}
    # What comes in chunks, as no browser sends it, does not tell its length before. To refuse that, too:
    # <If "-n req_novary('Transfer-Encoding')">
    #     Redirect 411
    # </If>
</VirtualHost>
"""
_SLASHLESS = """
    RedirectMatch "^{pattern}$" "{mount}/"
"""
_TOO_LARGE = """\
    <If "req_novary('Content-Length') -gt {max_body_bytes}">
        Redirect 413
    </If>"""
_STATIC = """
    # Files that Apache serves without asking the application.
{exclusion}    Alias "{url}/" "{folder}/"
    <Directory "{folder}">
        Require all granted
    </Directory>
"""
_ADVICE = """\
Write it to {path}, then, as root:
    a2enmod proxy_fcgi
    a2ensite {name}
    apachectl configtest && apachectl graceful
"""
_NAMELESS = """\
Without --server-name it answers where no other site does: Debian's own comes first (a2dissite 000-default).
"""


def configure(plan: Plan) -> Configuration:
    """Make it."""
    address = plan.address
    mount = plan.root_path
    path = site_path(plan)
    text = _SITE.format(
        **host_lines(plan),
        app=plan.app,
        static=in_order(static_lines(plan, proxied=True)),
        slashless=_SLASHLESS.format(pattern=re.escape(mount), mount=mount) if mount else "",
        connections=CONNECTIONS,
        idle=_IDLE_SECONDS,
        mount=mount,
        # Behind a socket file the host's name is none; it tells one application's connections from another's.
        upstream=f"unix:{address.path}|fcgi://{plan.name}" if address.kind == "unix" else f"fcgi://{address}",
        timeout=plan.timeout,
        max_body_size=plan.max_body_size,
        too_large=too_large_lines(plan),
    )
    advice = _ADVICE.format(path=path, name=plan.name) + plan.how_to_run()
    if not plan.server_name:
        advice += _NAMELESS
    return Configuration((File(path, text),), advice)


def site_path(plan: Plan) -> str:
    """Where Debian's Apache has the file of a site."""
    return f"/etc/apache2/sites-available/{plan.name}.conf"


def host_lines(plan: Plan) -> dict[str, str]:
    """What tells the virtual host from others: ``listen``, ``address``, ``server_name`` and ``certificate``."""
    host, port = plan.listen_address
    return {
        # Debian's ports.conf has these two.
        "listen": "" if port in {80, 443} else f"Listen {plan.listen}\n\n",
        "address": f"{host or '*'}:{port}",
        "server_name": f"    ServerName {plan.server_name}\n" if plan.server_name else "",
        "certificate": plan.server_name or plan.name,
    }


def too_large_lines(plan: Plan) -> str:
    """What refuses an upload that says that it is too large."""
    return _TOO_LARGE.format(max_body_bytes=plan.max_body_size << 20)


def static_lines(plan: Plan, *, proxied: bool) -> dict[str, str]:
    """The lines for each URL that has files of its own; `proxied`, whether a ProxyPass would take them otherwise."""
    return {
        url: _STATIC.format(
            exclusion=f'    ProxyPass "{url}/" "!"\n' if proxied and f"{url}/".startswith(f"{plan.root_path}/") else "",
            url=url,
            folder=folder,
        )
        for url, folder in plan.static
    }


def in_order(aliases: Mapping[str, str]) -> str:
    """The lines for all URLs: of two aliases the first that fits counts."""
    return "".join(longest_first(aliases))
