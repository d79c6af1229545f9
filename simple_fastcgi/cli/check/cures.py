"""What has to be written into a web server's configuration: one table, by topic and web server."""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .seen import Seen

_NAMES = {
    "nginx": "nginx",
    "apache": "mod_proxy_fcgi",
    "lighttpd": "lighttpd",
    "haproxy": "haproxy",
    "caddy": "caddy",
}
"""How SERVER_SOFTWARE begins (in lower case), and the column of the table."""

_CURES: dict[str, dict[str, str]] = {
    "mount": {
        "nginx": "fastcgi_split_path_info ^({mount})(/.*)$; and, behind the include of fastcgi_params, "
        "fastcgi_param PATH_INFO $fastcgi_path_info;",
        "mod_proxy_fcgi": 'ProxyPass "{mount}/" "unix:/run/app.sock|fcgi://localhost/" (no path behind localhost/)',
        "mod_fcgid": 'ScriptAlias "{mount}" "/path/to/index.fcgi"',
        "lighttpd": 'fastcgi.server = ("{mount}" => ((..., "check-local" => "disable")))',
        "haproxy": "path-info ^({mount})(/.*)$ in the section fcgi-app",
        "caddy": "split {mount} in transport fastcgi",
        "": "the configuration that simple-fastcgi config prints with --root-path {mount}",
    },
    "root": {
        "lighttpd": 'add "fix-root-scriptname" => "enable" to the host in fastcgi.server',
    },
    "request_uri": {
        "nginx": "include fastcgi_params; or fastcgi_param REQUEST_URI $request_uri;",
        "": "have it send REQUEST_URI and PATH_INFO",
    },
    "authorization": {
        "nginx": 'take out fastcgi_param HTTP_AUTHORIZATION "..."; by itself nginx passes the field on',
        "mod_proxy_fcgi": "CGIPassAuth On in the <Location> or <Directory> of the application",
        "mod_fcgid": "CGIPassAuth On in the <Directory> or .htaccess; where that is forbidden: "
        'SetEnvIf Authorization "(.+)" HTTP_AUTHORIZATION=$1',
        "haproxy": "pass-header Authorization in the section fcgi-app",
        "": "have it pass the header field Authorization on, as HTTP_AUTHORIZATION",
    },
    "host": {
        "nginx": "fastcgi_param HTTP_HOST $http_host; behind the include of fastcgi_params",
        "mod_proxy_fcgi": "ProxyPreserveHost On in the proxy before it",
        "": "have it, and each proxy before it, pass the header field Host on as it comes",
    },
    "https": {
        "nginx": "fastcgi_param HTTPS on; in the server that the TLS proxy calls",
        "mod_proxy_fcgi": "SetEnvIf X-Forwarded-Proto https HTTPS=on",
        "mod_fcgid": "SetEnvIf X-Forwarded-Proto https HTTPS=on",
        "lighttpd": 'setenv.set-environment = ("HTTPS" => "on") in the server that the TLS proxy calls',
        "haproxy": "set-param HTTPS on in the section fcgi-app",
        "caddy": "env HTTPS on in transport fastcgi",
        "": "have it send HTTPS=on",
    },
    "http": {
        "nginx": "take out fastcgi_param HTTPS on; where plain HTTP is served ($https is right for both)",
        "": "have it send HTTPS=on for TLS only",
    },
    "body": {
        "nginx": "client_max_body_size {mib}m;",
        "mod_proxy_fcgi": "raise the number in <If \"req_novary('Content-Length') -gt ...\">, or what else refuses "
        "them, to {bytes}",
        "mod_fcgid": "FcgidMaxRequestLen {bytes} (it is 131072 by itself; on a shared host only the host can raise it)",
        "lighttpd": "server.max-request-size = {kib} (KiB)",
        "haproxy": "http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt {bytes} }} in the backend",
        "caddy": "request_body {{ max_size {mib}MiB }}",
        "": "raise its limit to {mib} MiB",
    },
    "chunked": {
        "lighttpd": "server.stream-request-body = 0 (the default) takes them",
        "": "have it take requests with Transfer-Encoding: chunked",
    },
    "buffering": {
        "nginx": "take out fastcgi_ignore_headers X-Accel-Buffering; or write fastcgi_buffering off;",
        "mod_proxy_fcgi": "flushpackets=on in ProxyPass or <Proxy>",
        "mod_fcgid": "FcgidOutputBufferSize 0",
        "lighttpd": "server.stream-response-body = 1",
        "caddy": "flush_interval -1 in reverse_proxy; no encode for text/event-stream",
        "": "switch its buffering of responses off",
    },
    "unbuffered": {
        "nginx": "a response with the header field X-Accel-Buffering: no is not buffered",
        "mod_proxy_fcgi": "flushpackets=on in ProxyPass or <Proxy>",
        "mod_fcgid": "FcgidOutputBufferSize 0",
        "lighttpd": "server.stream-response-body = 1",
        "caddy": "flush_interval -1 in reverse_proxy",
        "": "switch the buffering of responses off",
    },
    "keep": {
        "nginx": 'an upstream with "keepalive 8;", and "fastcgi_keep_conn on;" beside fastcgi_pass',
        "mod_proxy_fcgi": "enablereuse=on in ProxyPass or <Proxy>",
        "haproxy": "option keep-conn in the section fcgi-app",
        "": "have it keep its FastCGI connections",
    },
    "encoded slash": {
        "mod_proxy_fcgi": "AllowEncodedSlashes On in the <VirtualHost>",
        "mod_fcgid": "AllowEncodedSlashes On in the <VirtualHost>",
        "": "have it pass %2F on, or use none in URLs",
    },
}

_LABELS = {"haproxy": "HAProxy", "caddy": "Caddy"}

CANNOT: dict[str, dict[str, str]] = {
    "keep": {
        "mod_fcgid": "mod_fcgid opens one for each request",
        "lighttpd": "lighttpd opens one for each request",
        "caddy": "Caddy opens one for each request",
    },
    "chunked": {
        "haproxy": "HAProxy takes no more of them than fits into its buffer (option http-buffer-request; 16 KB)"
    },
}
"""What a web server cannot do, whatever is written."""

LOGS = {
    "nginx": "/var/log/nginx/error.log",
    "mod_proxy_fcgi": "/var/log/apache2/error.log",
    "mod_fcgid": "/var/log/apache2/error.log",
    "lighttpd": "/var/log/lighttpd/error.log",
    "caddy": "journalctl -u caddy",
    "haproxy": "/var/log/haproxy.log",
}
"""Where errors are told, usually."""


@dataclass(frozen=True)
class Software:
    """A web server by its `name` in the tables; "" is any other."""

    name: str

    @classmethod
    def named(cls, text: str) -> Software:
        """Out of SERVER_SOFTWARE, or the header field Server of an answer."""
        return cls(next((name for start, name in _NAMES.items() if text.lower().startswith(start)), ""))

    @classmethod
    def of(cls, seen: Seen, server: str) -> Software:
        """Out of what the probe tells, else of the header field Server: Apache has two modules for FastCGI."""
        found = cls.named(seen.software or server)
        return cls("mod_fcgid") if found.name == "mod_proxy_fcgi" and not seen.proxied else found

    @property
    def log(self) -> str:
        """Its error log, with a verb before it."""
        place = LOGS.get(self.name)
        return f"look into its error log ({place})" if place else "look into its error log"

    def cure(self, topic: str, **values: object) -> str:
        """What to write for `topic`, "" if that is nothing."""
        known = _CURES[topic]
        if self.name and self.name in known:
            return f"{_LABELS.get(self.name, self.name)}: {known[self.name].format(**values)}"
        return known.get("", "").format(**values)

    def cannot(self, topic: str) -> str | None:
        """Why it cannot, if it cannot."""
        return CANNOT.get(topic, {}).get(self.name)
