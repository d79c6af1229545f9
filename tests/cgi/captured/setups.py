"""The ways in which web servers are set up in front of an application, as people write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Listen = Literal["tcp", "tls", "ipv6", "unix"]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One way. In `text`, SOCKET and TCP stand for where the application is, DIR for a folder, PYTHON for a program."""

    server: str
    name: str
    text: str
    """What is written for it in the web server's configuration."""
    mount: str = ""
    """Where that puts the application."""
    root_path: str | None = None
    """What the operator must tell, where the set-up is ambiguous."""
    listen: Listen = "tcp"
    host: str = ""
    """The server's name, if the configuration tells one and applications are told it."""
    passes_authorization: bool = True
    """The Authorization field reaches the application."""
    https: Literal["told", "forwarded"] | None = None
    """The configuration says that another server ends TLS: always, or where X-Forwarded-Proto does."""
    htaccess: bool = False
    """`text` is an .htaccess file, in Apache's document root or, below a mount point, in its folder there."""
    fields: bool = False
    """Requests with header fields and bodies are made, too."""
    role: Literal["responder", "authorizer"] = "responder"
    slashless: bool = True
    """The mount point's URL without a slash behind it needs no `root_path` that the others do not need."""
    # How the web server makes the path of it. A file's or a folder's name is decoded, to begin with.
    merges: bool = True
    """Slashes are merged, dot segments resolved."""
    keeps_2f: bool = False
    """%2F is not decoded (AllowEncodedSlashes NoDecode)."""
    first: bool = False
    """SCRIPT_NAME is the first segment of the path, whatever it is, PATH_INFO the rest."""


STOCK = "include /etc/nginx/fastcgi_params;"
HOST = "fastcgi_param HTTP_HOST $http_host;"
SPLIT = f'{STOCK} {HOST} fastcgi_param SCRIPT_NAME ""; fastcgi_param PATH_INFO $fastcgi_script_name;'
BARE = """
    fastcgi_param REQUEST_METHOD $request_method; fastcgi_param QUERY_STRING $query_string;
    fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param PATH_INFO $fastcgi_script_name; fastcgi_param SERVER_PROTOCOL $server_protocol;
    fastcgi_param REMOTE_ADDR $remote_addr; fastcgi_param REMOTE_PORT $remote_port;
    fastcgi_param SERVER_NAME $server_name; fastcgi_param SERVER_PORT $server_port;"""
MOUNTED = rf"fastcgi_split_path_info ^(/app)(/?.*)$; {STOCK} fastcgi_param PATH_INFO $fastcgi_path_info;"


def _nginx(name: str, text: str, server: str = "", *, place: str = "/", **more: Any) -> Setup:
    location = f"location {place} {{ {text} fastcgi_pass unix:SOCKET; }}"
    return Setup(server="nginx", name=name, text=f"{server} {location}", **more)


NGINX = (
    _nginx("root-stock", STOCK, fields=True),
    _nginx("root-split", SPLIT, "server_name shop.example;", host="shop.example", fields=True),
    _nginx("root-both", f"{STOCK} fastcgi_param PATH_INFO $fastcgi_script_name;", "server_name _;"),
    _nginx("root-bare", BARE, "server_name shop.example;", host="shop.example"),
    _nginx("app-split", MOUNTED, "server_name *.shop.example;", place="/app", mount="/app"),
    _nginx(
        "app-stock",
        STOCK,
        r"server_name ~^www\d\.shop\.example$;",
        place="/app",
        mount="/app",
        root_path="/app",
    ),
    _nginx(
        "app-rewritten",
        f"rewrite ^/app(/.*)$ $1 break; {STOCK} fastcgi_param SCRIPT_NAME /app; fastcgi_param PATH_INFO $uri;",
        place="/app/",
        mount="/app",
    ),
    _nginx("tls", SPLIT, "server_name shop.example;", host="shop.example", listen="tls"),
    _nginx("unbuffered", f"{SPLIT} fastcgi_request_buffering off;", fields=True),
    _nginx("https-told", f"{SPLIT} fastcgi_param HTTPS on;", https="told"),
    _nginx("ipv6", SPLIT, listen="ipv6"),
    _nginx("unix", SPLIT, listen="unix"),
)

PASS = 'ProxyPass "{}" "unix:SOCKET|fcgi://localhost{}"'
SET_HANDLER = '<Location "{}">\nSetHandler "proxy:unix:SOCKET|fcgi://localhost/"\n</Location>'
HTACCESS = "RewriteEngine On\nRewriteCond %{REQUEST_FILENAME} !-f\n"
TO_SCRIPT = "RewriteRule ^(.*)$ index.fcgi/$1 [L,QSA]"


def _apache(server: str, name: str, text: str, *, passes_authorization: bool = False, **more: Any) -> Setup:
    return Setup(
        server=server,
        name=name,
        text=text,
        # Where it tells no path that of REQUEST_URI counts, which is decoded as everywhere.
        keeps_2f="RewriteRule ^ " not in text,
        passes_authorization=passes_authorization,
        **more,
    )


def _proxy(name: str, text: str, **more: Any) -> Setup:
    return _apache("apache-proxy", name, text, **more)


def _fcgid(name: str, text: str, **more: Any) -> Setup:
    return _apache("apache-fcgid", name, text, **more)


def _htaccess(name: str, rules: str, **more: Any) -> Setup:
    return _fcgid(name, HTACCESS + rules, htaccess=True, **more)


def _cgid(name: str, text: str, **more: Any) -> Setup:
    return _apache("apache-cgid", name, text, **more)


APACHE = (
    _proxy("root-pass", PASS.format("/", "/"), fields=True),
    _proxy(
        "root-setenv",
        PASS.format("/", "/").replace("localhost", "setenv")
        + '\nProxyFCGISetEnvIf "true" PATH_INFO "%{reqenv:SCRIPT_NAME}"\nProxyFCGISetEnvIf "true" SCRIPT_NAME ""',
    ),
    _proxy(
        "root-authorization",
        PASS.format("/", "/") + '\n<Location "/">\nCGIPassAuth On\n</Location>',
        passes_authorization=True,
        fields=True,
    ),
    _proxy(
        "root-setenvif",
        PASS.format("/", "/")
        + '\nSetEnvIf Authorization "(.+)" HTTP_AUTHORIZATION=$1\nSetEnvIf X-Forwarded-Proto https HTTPS=on',
        passes_authorization=True,
        https="forwarded",
        fields=True,
    ),
    _proxy("root-sethandler", SET_HANDLER.format("/"), root_path="/", first=True),
    _proxy("app-sethandler", SET_HANDLER.format("/app"), mount="/app", slashless=False),
    _proxy("app-kept", PASS.format("/app", "/app"), mount="/app", root_path="/app"),
    _proxy("app-dropped", PASS.format("/app/", "/"), mount="/app"),
    _proxy("app-match", 'ProxyPassMatch "^/app/(.*)$" "fcgi://TCP/$1"', mount="/app"),
    _proxy("root-match", 'ProxyPassMatch "^/(.*)$" "fcgi://TCP/$1"'),
    _proxy("tls", PASS.format("/", "/"), listen="tls"),
    _proxy("ipv6", PASS.format("/", "/"), listen="ipv6"),
    _fcgid("root-alias", 'ScriptAlias "/" "DIR/index.fcgi/"', fields=True),
    _fcgid("app-alias", 'ScriptAlias "/app" "DIR/index.fcgi"', mount="/app"),
    _htaccess("root-htaccess", TO_SCRIPT, fields=True),
    _htaccess("root-htaccess-bare", "RewriteRule ^ index.fcgi [L]"),
    _htaccess("app-htaccess", TO_SCRIPT, mount="/app"),
    # What shared hosts are told to write where Authorization does not arrive, and where another server ends TLS.
    _htaccess(
        "root-htaccess-environment",
        "SetEnvIf X-Forwarded-Proto https HTTPS=on\n"
        "RewriteRule ^(.*)$ index.fcgi/$1 [L,QSA,E=HTTP_AUTHORIZATION:%{HTTP:Authorization},E=STAGE:test]",
        passes_authorization=True,
        https="forwarded",
        fields=True,
    ),
    _htaccess("root-htaccess-authorization", f"{TO_SCRIPT}\nCGIPassAuth On", passes_authorization=True, fields=True),
    _htaccess(
        "app-htaccess-setenvif",
        f'{TO_SCRIPT}\nSetEnvIf Authorization "(.+)" Authorization=$1',
        mount="/app",
        passes_authorization=True,
        fields=True,
    ),
    _htaccess("script", "", mount="/index.fcgi"),
    _htaccess("tls", TO_SCRIPT, listen="tls"),
    _cgid("app-alias", 'ScriptAlias "/app" "DIR/index.cgi"', mount="/app", fields=True),
    _cgid("root-htaccess", f"{HTACCESS}{TO_SCRIPT}".replace(".fcgi", ".cgi"), htaccess=True, fields=True),
    _cgid(
        "root-htaccess-environment",
        f"{HTACCESS}RewriteRule ^ index.cgi [L,E=HTTP_AUTHORIZATION:%{{HTTP:Authorization}}]",
        htaccess=True,
        passes_authorization=True,
        fields=True,
    ),
    Setup(
        server="apache-authnz",
        name="authorizer",
        text="""AuthnzFcgiDefineProvider authn guard fcgi://TCP/
            <Location "/">
            AuthType Basic
            AuthName "members"
            AuthBasicProvider guard
            Require valid-user
            </Location>""",
        role="authorizer",
        passes_authorization=False,
    ),
)

LIGHTTPD_SOCKET = 'fastcgi.server = ( "{}" => (( "socket" => "SOCKET", "check-local" => "disable"{} )) )'
FIX = ', "fix-root-scriptname" => "enable"'


def _lighttpd(name: str, text: str, **more: Any) -> Setup:
    return Setup(server="lighttpd", name=name, text=text, **more)


LIGHTTPD = (
    _lighttpd("root-fix", LIGHTTPD_SOCKET.format("/", FIX), fields=True),
    _lighttpd("root-nofix", LIGHTTPD_SOCKET.format("/", ""), root_path="/", first=True),
    _lighttpd(
        "app",
        'server.name = "shop.example"\n' + LIGHTTPD_SOCKET.format("/app", ""),
        mount="/app",
        host="shop.example",
    ),
    _lighttpd(
        "rewritten",
        'url.rewrite-once = ( "^/(.*)$" => "/index.fcgi/$1" )\n' + LIGHTTPD_SOCKET.format("/index.fcgi", ""),
    ),
    _lighttpd(
        "app-rewritten",
        'url.rewrite-once = ( "^/app/(.*)$" => "/app/index.fcgi/$1" )\n'
        + LIGHTTPD_SOCKET.format("/app/index.fcgi", ""),
        mount="/app",
    ),
    _lighttpd("app-stripped", LIGHTTPD_SOCKET.format("/app", ', "strip-request-uri" => "/app/"'), mount="/app"),
    _lighttpd(
        "bin-path",
        'fastcgi.server = ( "/app" => (( "bin-path" => "DIR/index.fcgi", "socket" => "DIR/spawned", '
        '"max-procs" => 1, "check-local" => "disable" )) )',
        mount="/app",
    ),
    _lighttpd("cgi", 'cgi.assign = ( "/app.cgi" => "" )', mount="/app.cgi", fields=True),
    _lighttpd(
        "authorizer",
        'fastcgi.server = ( "/" => (( "socket" => "SOCKET", "mode" => "authorizer", "docroot" => "DIR" )) )',
        role="authorizer",
    ),
    _lighttpd(
        "https-told", 'setenv.set-environment = ( "HTTPS" => "on" )\n' + LIGHTTPD_SOCKET.format("/", FIX), https="told"
    ),
    _lighttpd("ipv6", LIGHTTPD_SOCKET.format("/", FIX), listen="ipv6"),
    _lighttpd("unix", LIGHTTPD_SOCKET.format("/", FIX), listen="unix"),
)


def _haproxy(name: str, text: str = "", *, passes_authorization: bool = False, **more: Any) -> Setup:
    return Setup(
        server="haproxy",
        name=name,
        text=text,
        merges=False,
        passes_authorization=passes_authorization,
        **more,
    )


HAPROXY = (
    _haproxy("root-stock", fields=True),
    _haproxy(
        "root-path-info", "path-info ^()(/.*)$\n pass-header Authorization", passes_authorization=True, fields=True
    ),
    _haproxy("root-set-param", "set-param PATH_INFO %[path,url_dec]"),
    _haproxy("app-path-info", "path-info ^(/app)(/.*)?$", mount="/app", slashless=False),
    _haproxy(
        "https-told",
        "path-info ^()(/.*)$\n set-param HTTPS on if { hdr(X-Forwarded-Proto) https }",
        https="forwarded",
        fields=True,
    ),
    _haproxy("tls", "path-info ^()(/.*)$", listen="tls"),
    _haproxy("ipv6", "path-info ^()(/.*)$", listen="ipv6"),
    _haproxy("unix", "path-info ^()(/.*)$", listen="unix"),
)

TO_APP = "reverse_proxy unix/SOCKET {{\n transport fastcgi {{\n root DIR\n {}\n }}\n }}"


def _caddy(name: str, text: str, *, merges: bool = False, **more: Any) -> Setup:
    return Setup(server="caddy", name=name, text=text, merges=merges, **more)


CADDY = (
    _caddy("root", TO_APP.format(""), fields=True),
    _caddy("app-handle-path", "handle_path /app/* {\n" + TO_APP.format("") + "\n}", mount="/app", merges=True),
    _caddy("app-split", "handle /app* {\n" + TO_APP.format("split /app") + "\n}", mount="/app"),
    _caddy("app-handle", "handle /app* {\n" + TO_APP.format("") + "\n}", mount="/app", root_path="/app"),
    _caddy("https-told", TO_APP.format("env HTTPS on"), https="told"),
    _caddy("tls", TO_APP.format(""), listen="tls"),
    _caddy("ipv6", TO_APP.format(""), listen="ipv6"),
    _caddy("unix", TO_APP.format(""), listen="unix"),
)

SETUPS = (*NGINX, *APACHE, *LIGHTTPD, *HAPROXY, *CADDY)
