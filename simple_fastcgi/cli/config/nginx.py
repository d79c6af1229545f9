"""nginx: an upstream with kept connections, and a server."""

from __future__ import annotations

from .plan import Configuration, File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

_SITE = """\
# {name} behind nginx. Made by: simple-fastcgi config nginx

upstream {name} {{
    server {upstream};
    keepalive 8;               # so many idle connections stay open: no new one for each request
}}

server {{
    listen {listen};
    server_name {server_name};

    client_max_body_size {max_body_size}m;  # nginx by itself refuses uploads of more than 1 MB
{static}
    location {mount}/ {{
{parameters}
        fastcgi_pass {name};

        fastcgi_keep_conn on;          # without it the application closes after each answer, and keepalive does nothing
        fastcgi_read_timeout {timeout}s;     # between two pieces of an answer
        fastcgi_send_timeout {timeout}s;
        fastcgi_max_temp_file_size 0;  # what a slow visitor has not read yet waits in the application, not in a file

        # Answers are buffered, which frees the application early when a visitor reads slowly. One with the header
        # "X-Accel-Buffering: no" goes around that: events (text/event-stream) have it by themselves.
        # For uploads that are handed on while they arrive: fastcgi_request_buffering off;
    }}
}}
"""
_STOCK = """\
        include fastcgi_params;
        # Debian's file takes the port off the host name; of two lines with one name the later counts.
        fastcgi_param HTTP_HOST $http_host;"""
_SPLIT = """\
        # The split tells what part of the URL is the mount point, so that the URLs the application makes begin with it.
        fastcgi_split_path_info ^({mount})(/.*)$;
        include fastcgi_params;
        fastcgi_param PATH_INFO $fastcgi_path_info;
        # Debian's file takes the port off the host name; of two lines with one name the later counts.
        fastcgi_param HTTP_HOST $http_host;"""
_STATIC = """
    location {url}/ {{
        alias {folder}/;  # files that nginx serves without asking the application
    }}
"""
_ADVICE = """\
Write it to /etc/nginx/conf.d/{name}.conf (or to sites-available, with a link in sites-enabled), then:
    nginx -t && nginx -s reload
Run the application:
    {run}
"""


def configure(plan: Plan) -> Configuration:
    """Make it."""
    address = plan.address
    text = _SITE.format(
        name=plan.name,
        upstream=str(address),
        listen=plan.listen,
        server_name=plan.server_name or "_",
        max_body_size=plan.max_body_size,
        mount=plan.root_path,
        timeout=plan.timeout,
        parameters=(_SPLIT if plan.root_path else _STOCK).format(mount=plan.root_path),
        static="".join(_STATIC.format(url=url, folder=folder) for url, folder in plan.static),
    )
    advice = _ADVICE.format(name=plan.name, run=plan.how_to_run())
    return Configuration((File(f"/etc/nginx/conf.d/{plan.name}.conf", text),), advice)
