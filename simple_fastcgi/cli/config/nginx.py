"""nginx: an upstream with kept connections, and a server."""

from __future__ import annotations

from .plan import Configuration, File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

_SITE = """\
# {app} behind nginx. Made by: simple-fastcgi config nginx

upstream {name} {{
    server {upstream};
    keepalive 8;  # so many idle connections stay open, for each of nginx's processes: no new one for each request
}}

# The port that the visitor's Host has, if any: the application's own URLs need it.
map $http_host ${variable} {{
    default "";
    "~(:[0-9]+)$" $1;
}}

server {{
    listen {listen};{ipv6}
    server_name {server_name};

    # With a certificate:
    # listen 443 ssl;
    # ssl_certificate     /etc/ssl/{certificate}.pem;
    # ssl_certificate_key /etc/ssl/{certificate}.key;

    client_max_body_size {max_body_size}m;  # of an upload; 1m unless told otherwise
{static}
    location {mount}/ {{{slashless}
        include fastcgi_params;
        # Of two lines with one name the later counts. Debian's file has no port in it, other ones have no such line.
        fastcgi_param HTTP_HOST $host${variable};{split}

        fastcgi_pass {name};
        fastcgi_keep_conn on;        # without it the application closes after each answer, and keepalive does nothing
        fastcgi_read_timeout {timeout}s;   # for the first piece of an answer, and between two
        fastcgi_send_timeout {timeout}s;   # between two pieces of an upload

        # The fields of an answer (many cookies) have to fit into one buffer: 4 KB or 8 KB, unless told otherwise.
        fastcgi_buffer_size 32k;
        fastcgi_buffers 8 32k;

        # Answers are buffered, so that a visitor who reads slowly does not keep the application busy. An answer with
        # the field "X-Accel-Buffering: no" is not; events (text/event-stream) have it by themselves. For all answers:
        # fastcgi_buffering off;

        # Uploads are stored first and then handed on. To hand them on while they arrive:
        # fastcgi_request_buffering off;
    }}
}}
"""
_SPLIT = """

        # What part of the URL is the mount point: the URLs that the application makes begin with it.
        fastcgi_split_path_info ^({mount})(/.*)$;
        fastcgi_param PATH_INFO $fastcgi_path_info;"""
_SLASHLESS = "  # nginx redirects {mount} to {mount}/"
_IPV6 = "\n    # listen [::]:{listen};  # IPv6 too, where the machine has it"
_STATIC = """
    location {url}/ {{
        alias {folder}/;  # files that nginx serves without asking the application
    }}
"""
_ADVICE = """\
Write it to /etc/nginx/conf.d/{name}.conf, then:
    nginx -t && nginx -s reload
"""
_NAMELESS = """\
Without --server-name it answers where no other site does: Debian's /etc/nginx/sites-enabled/default would come first.
"""


def configure(plan: Plan) -> Configuration:
    """Make it."""
    mount = plan.root_path
    text = _SITE.format(
        app=plan.app,
        name=plan.name,
        variable="port_of_" + plan.name.translate(str.maketrans("-.", "__")),
        upstream=str(plan.address),
        listen=plan.listen,
        ipv6="" if ":" in plan.listen else _IPV6.format(listen=plan.listen),
        server_name=plan.server_name or "_",
        certificate=plan.server_name or plan.name,
        max_body_size=plan.max_body_size,
        mount=mount,
        timeout=plan.timeout,
        slashless=_SLASHLESS.format(mount=mount) if mount else "",
        split=_SPLIT.format(mount=mount.replace(".", "\\.").replace("+", "\\+")) if mount else "",
        static="".join(_STATIC.format(url=url, folder=folder) for url, folder in plan.static),
    )
    advice = _ADVICE.format(name=plan.name) + plan.how_to_run()
    if not plan.server_name:
        advice += _NAMELESS
    return Configuration((File(f"/etc/nginx/conf.d/{plan.name}.conf", text),), advice)
