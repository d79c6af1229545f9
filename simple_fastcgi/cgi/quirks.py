"""How web servers differ in what they send, and what is made of it: one table, :data:`QUIRKS`.

It says of each difference whose it is and which function or constant of this layer sees to it: of the mount point and
path those of :mod:`.paths`, of a connection's end :mod:`.parting`, of responses :mod:`.response`, of everything else
those of :mod:`.request`, from which :mod:`.asgi` and :mod:`.wsgi` make what applications see. Nothing that serves
requests loads this module. The table for readers is docs/webservers/parameters.md; the tests hold both against what the
web servers really sent.
"""

from __future__ import annotations

from typing import NamedTuple

from . import parting, paths, request, response, wsgi

NGINX = "nginx"
PROXY_FCGI = "mod_proxy_fcgi"
FCGID = "mod_fcgid"
CGID = "mod_cgid"
AUTHNZ_FCGI = "mod_authnz_fcgi"
LIGHTTPD = "lighttpd"
HAPROXY = "HAProxy"
CADDY = "Caddy"
H2O = "h2o"
IIS = "IIS"

APACHE = (PROXY_FCGI, FCGID, CGID, AUTHNZ_FCGI)
SERVERS = (NGINX, *APACHE, LIGHTTPD, HAPROXY, CADDY, H2O, IIS)
"""All of whom something is known. mod_cgid, and lighttpd in part, start CGI programs."""


class Quirk(NamedTuple):
    """One difference. S, P and U in its texts are SCRIPT_NAME, PATH_INFO and the path of REQUEST_URI."""

    topic: str
    """What it is about: one of :data:`TOPICS`."""
    name: str
    """Lower-case words with dashes; unique."""
    sent: str
    """What the web server sends."""
    servers: tuple[str, ...]
    """Those that send it, in one set-up or another."""
    made: str
    """What the application sees."""
    by: object = None
    """The function or constant that sees to it; None if it is handed on as it came."""


TOPICS = ("Mount point and path", "Scheme", "Server", "Client", "Authorization", "Body", "Header fields", "Other")

_PATH, _SCHEME, _SERVER, _CLIENT, _AUTHORIZATION, _BODY, _FIELDS, _OTHER = TOPICS

QUIRKS = (
    Quirk(
        *(_PATH, "no-request-uri"),
        "No REQUEST_URI: a list of parameters written by hand",
        (NGINX,),
        "S and P as they are; without a P, S is the path",
        paths._no_url,
    ),
    Quirk(
        *(_PATH, "as-specified"),
        "S and P, which together are U, as RFC 3875 has it",
        (NGINX, PROXY_FCGI, FCGID, CGID, LIGHTTPD, HAPROXY, CADDY, H2O),
        "Mount point S, path P",
        paths._as_specified,
    ),
    Quirk(
        *(_PATH, "prefix-dropped-in-target"),
        "S is U, no P; SCRIPT_FILENAME is `proxy:fcgi://HOST/REST`, and U ends in REST",
        (PROXY_FCGI,),
        "Mount point: what U has before REST",
        paths._prefix_dropped_in_target,
    ),
    Quirk(
        *(_PATH, "script-alone"),
        "S is U, no P: the stock parameters",
        (NGINX, PROXY_FCGI, FCGID, CGID, LIGHTTPD, HAPROXY),
        "Mounted at the root, path S; from Apache (but not mod_proxy_fcgi) and lighttpd the mount point S, called "
        "without the slash behind it",
        paths._script_alone,
    ),
    Quirk(
        *(_PATH, "prefix-stripped"),
        "P is U, beside an S, and no REDIRECT_URI that tells of a rewrite: `strip-request-uri`",
        (LIGHTTPD,),
        "Mount point S, path P",
        paths._prefix_stripped,
    ),
    Quirk(
        *(_PATH, "both-whole"),
        "P is U, beside an S; also a rewrite to a script at the root",
        (NGINX, FCGID, CGID, LIGHTTPD, HAPROXY, IIS),
        "Mounted at the root, path P",
        paths._both_whole,
    ),
    Quirk(
        *(_PATH, "rewritten-to-script"),
        "S is a script that is not in U, but its folder is: `.htaccess`, `url.rewrite`",
        (FCGID, CGID, LIGHTTPD),
        "Mount point: that folder; the path is what U has behind it, or the P that a rule has made of it",
        paths._rewritten_to_script,
    ),
    Quirk(
        *(_PATH, "led-into-folder"),
        "The same behind another `.htaccess`, which leads the whole site into the script's folder: neither is in U",
        (FCGID, CGID),
        "Mounted at the root, path U",
        paths._led_into_folder,
    ),
    Quirk(
        *(_PATH, "decoded-twice"),
        "P decoded twice: `%2520` arrives as a blank (`RewriteRule ^(.*)$ index.fcgi/$1`)",
        (FCGID, CGID),
        "The path out of U, decoded once",
        paths._rewritten_to_script,
    ),
    Quirk(
        *(_PATH, "index-added"),
        "No P, S is U and the name of a file: `index`",
        (HAPROXY,),
        "Mounted at the root, path U",
        paths._index_added,
    ),
    Quirk(
        *(_PATH, "prefix-taken-away"),
        "Empty S, U ends in P: `handle_path`",
        (CADDY,),
        "Mount point: what U has before P",
        paths._prefix_taken_away,
    ),
    Quirk(
        *(_PATH, "absolute-target"),
        "P is `/http://HOST/PATH`, for a client that asks as it would ask a proxy",
        (H2O,),
        "Mounted at the root, path PATH",
        paths._absolute_target,
    ),
    Quirk(
        *(_PATH, "rewritten-stock"),
        "No P, and S has nothing to do with U: the stock parameters behind a rewrite of the whole path, or of what "
        "nginx asks by itself (`auth_request`, `error_page`)",
        (NGINX, HAPROXY),
        "Mounted at the root, path S",
        paths._rewritten_stock,
    ),
    Quirk(
        *(_PATH, "ambiguous"),
        "The same as for another mount point (see below)",
        (NGINX, PROXY_FCGI, LIGHTTPD, HAPROXY, CADDY, H2O),
        "What the operator tells: `--root-path`, `root_path=`",
        paths._told_by_operator,
    ),
    Quirk(
        *(_PATH, "encoded-slash-kept"),
        "`%2F` in S or P (`AllowEncodedSlashes NoDecode`)",
        (PROXY_FCGI, FCGID, CGID),
        "As it came; it counts as equal to the same in U",
        paths.decode_path,
    ),
    Quirk(
        *(_PATH, "set-twice"),
        "A parameter twice: the stock ones, and an override behind them",
        (NGINX,),
        "The last counts",
        request.join_repeated,
    ),
    Quirk(
        *(_SCHEME, "https-on"),
        "HTTPS=on",
        (NGINX, PROXY_FCGI, FCGID, LIGHTTPD, HAPROXY, CADDY),
        "`https`, whatever REQUEST_SCHEME says",
        request.scheme,
    ),
    Quirk(
        *(_SCHEME, "https-off"),
        "HTTPS=off",
        (IIS,),
        "Not `https`; nor for an empty one or 0",
        request.PLAINTEXT,
    ),
    Quirk(
        *(_SCHEME, "no-request-scheme"),
        "No REQUEST_SCHEME",
        (NGINX, HAPROXY, H2O, IIS),
        "HTTPS alone decides",
        request.scheme,
    ),
    Quirk(
        *(_SCHEME, "https-set-by-hand"),
        "HTTPS=on beside REQUEST_SCHEME=http: written by hand, where another server ends TLS",
        (NGINX, PROXY_FCGI, FCGID, LIGHTTPD, CADDY),
        "`https`",
        request.scheme,
    ),
    Quirk(
        *(_SCHEME, "forwarded-proto"),
        "The client's X-Forwarded-Proto",
        (NGINX, PROXY_FCGI, FCGID, CGID, AUTHNZ_FCGI, LIGHTTPD, HAPROXY),
        "A header field and nothing else: any client can send one. Caddy puts its own in its place",
    ),
    Quirk(
        *(_SERVER, "name-empty"),
        "Empty SERVER_NAME: no `server_name` is configured",
        (NGINX,),
        "The address, SERVER_ADDR",
        request.server,
    ),
    Quirk(
        *(_SERVER, "name-pattern"),
        r"SERVER_NAME is the pattern that was configured: `_`, `*.shop.example`, `~^www\d`",
        (NGINX,),
        "The address, SERVER_ADDR",
        request.server,
    ),
    Quirk(
        *(_SERVER, "name-with-port"),
        "SERVER_NAME with the port in it",
        (HAPROXY,),
        "The name without it",
        request.server,
    ),
    Quirk(
        *(_SERVER, "address-in-brackets"),
        "SERVER_NAME is an IPv6 address in brackets",
        (PROXY_FCGI, LIGHTTPD, HAPROXY),
        "ASGI: without brackets; WSGI: with them (RFC 3875, 4.1.14)",
        request.server,
    ),
    Quirk(
        *(_SERVER, "address-bare"),
        "SERVER_NAME is an IPv6 address without brackets",
        (CADDY,),
        "The same",
        wsgi._server_name,
    ),
    Quirk(
        *(_SERVER, "no-port"),
        "Empty SERVER_PORT, or 0: the web server listens on a unix socket",
        (NGINX, LIGHTTPD, HAPROXY),
        "ASGI: None; WSGI: 80 or 443 for an empty one",
        request.server,
    ),
    Quirk(
        *(_SERVER, "path-of-socket"),
        "SERVER_ADDR is `unix:PATH`",
        (NGINX,),
        "Where no name is told: the path in ASGI, `localhost` in WSGI",
        request.server,
    ),
    Quirk(
        *(_SERVER, "host-without-port"),
        "HTTP_HOST without the port that the client named (Debian's `fastcgi_params`)",
        (NGINX,),
        "As it came: write `fastcgi_param HTTP_HOST $host:$server_port;` where the port is another than 80 and 443. "
        "Django refuses forms otherwise (403, Origin checking failed)",
    ),
    Quirk(
        *(_CLIENT, "unix-socket"),
        "REMOTE_ADDR is `unix:`, `unix`, `@` or the path of the web server's socket",
        (NGINX, LIGHTTPD, HAPROXY, CADDY),
        "No address: None in ASGI; WSGI's REMOTE_ADDR stays as it is",
        request.client,
    ),
    Quirk(
        *(_CLIENT, "no-client-port"),
        "REMOTE_PORT empty or 0",
        (NGINX, LIGHTTPD, HAPROXY, CADDY),
        "Port 0 in ASGI, where there is an address",
        request.client,
    ),
    Quirk(
        *(_AUTHORIZATION, "withheld"),
        "No HTTP_AUTHORIZATION, although the client sent the field",
        (*APACHE, HAPROXY),
        "Nothing, until the web server is told: `CGIPassAuth On`; `pass-header Authorization`",
    ),
    Quirk(
        *(_AUTHORIZATION, "redirected"),
        "REDIRECT_HTTP_AUTHORIZATION: set by a RewriteRule (`E=HTTP_AUTHORIZATION:...`), renamed by the rewrite",
        (FCGID, CGID),
        "The Authorization field",
        request.AUTHORIZATION_NAMES,
    ),
    Quirk(
        *(_AUTHORIZATION, "renamed"),
        "A variable `Authorization`: `SetEnvIf Authorization (.+) Authorization=$1`",
        (FCGID,),
        "The Authorization field",
        request.AUTHORIZATION_NAMES,
    ),
    Quirk(
        *(_AUTHORIZATION, "set-empty"),
        "REDIRECT_HTTP_AUTHORIZATION without a value, for a client that sent no such field",
        (FCGID, CGID),
        "No Authorization field",
        request.authorization,
    ),
    Quirk(
        *(_AUTHORIZATION, "user-claimed"),
        "REMOTE_USER out of the Authorization field, with no password looked at",
        (NGINX, HAPROXY),
        "As it came. **It proves nothing** unless the web server asks for passwords (`auth_basic`)",
    ),
    Quirk(
        *(_BODY, "length-empty"),
        "Empty CONTENT_LENGTH with every GET",
        (NGINX,),
        "None: no header, no variable",
        request.EMPTY_IS_ABSENT,
    ),
    Quirk(
        *(_BODY, "others-empty"),
        "Empty CONTENT_TYPE, REMOTE_USER or AUTH_TYPE",
        (NGINX, CADDY, IIS),
        "None: no header, no variable",
        request.EMPTY_IS_ABSENT,
    ),
    Quirk(
        *(_BODY, "length-negative"),
        "CONTENT_LENGTH is -1 for a chunked upload",
        (CADDY,),
        "No length: the end of the input is the truth, and the upload arrives whole",
        request.content_length,
    ),
    Quirk(
        *(_BODY, "length-unknown"),
        "No CONTENT_LENGTH for a chunked upload, or an empty one (`fastcgi_request_buffering off`)",
        (NGINX, PROXY_FCGI, CGID),
        "The same",
        request.content_length,
    ),
    Quirk(
        *(_BODY, "transfer-encoding"),
        "HTTP_TRANSFER_ENCODING=chunked, although the body comes without chunks",
        (NGINX, PROXY_FCGI, CGID),
        "As it came; WSGI's `wsgi.input_terminated` has Flask and others read the body all the same. Django, Falcon "
        "and a2wsgi go by CONTENT_LENGTH alone",
    ),
    Quirk(
        *(_BODY, "content-fields-twice"),
        "HTTP_CONTENT_TYPE or HTTP_CONTENT_LENGTH beside the real ones",
        (NGINX, LIGHTTPD, CADDY),
        "One of each",
        request.NO_HEADERS,
    ),
    Quirk(
        *(_BODY, "cut-short"),
        "Fewer bytes than CONTENT_LENGTH tells: the web server met a limit, or lost the client",
        (),
        "The bytes that came, as if they were all; the log has a warning that names the request and both numbers",
    ),
    Quirk(
        *(_FIELDS, "field-twice"),
        "A header field that came twice, as two parameters of one name",
        (NGINX, HAPROXY),
        'ASGI: both; WSGI: joined with ", ", Cookie with "; "',
        request.join_repeated,
    ),
    Quirk(
        *(_FIELDS, "host-twice"),
        "HTTP_HOST twice: Debian's `fastcgi_params`, and an override behind it",
        (NGINX,),
        "The last counts",
        request.join_repeated,
    ),
    Quirk(
        *(_FIELDS, "cookies-joined"),
        'Cookie fields that came twice, joined with ", " instead of "; "',
        (*APACHE, CADDY),
        "As it came: a comma may be part of a cookie. Browsers send one field with HTTP/1.1",
    ),
    Quirk(
        *(_FIELDS, "httpoxy"),
        "HTTP_PROXY, out of the client's Proxy field",
        (NGINX, CADDY),
        "Dropped: programs would take it for their own proxy",
        request.NO_HEADERS,
    ),
    Quirk(
        *(_FIELDS, "underscores"),
        "HTTP_X_UNDER out of a field `X_Under`",
        (LIGHTTPD, CADDY),
        "As it came: it cannot be told from X-Under. Do not trust fields that a proxy before the web server sets, "
        "unless that takes both spellings away",
    ),
    Quirk(
        *(_OTHER, "redirected-variables"),
        "REDIRECT_URL and others: what there was before a rewrite in `.htaccess`",
        (FCGID, CGID),
        "As they came; WSGI applications do not get a REDIRECT_URL or SCRIPT_URL that contradicts the mount point, for "
        "Django would take its own from there. A variable of yours (`E=STAGE:test`) has the prefix, too; `SetEnv` and "
        "`SetEnvIf` give both",
    ),
    Quirk(
        *(_OTHER, "environment-of-the-server"),
        "PATH, of the web server itself",
        (PROXY_FCGI, FCGID, AUTHNZ_FCGI),
        "As it came, among the request's variables",
    ),
    Quirk(
        *(_OTHER, "password"),
        "REMOTE_PASSWD: the client's password",
        (AUTHNZ_FCGI,),
        "As it came, for the Authorizer to look at",
    ),
    Quirk(
        *(_OTHER, "no-gateway-interface"),
        "No GATEWAY_INTERFACE",
        (NGINX, H2O),
        "As it came",
    ),
    Quirk(
        *(_OTHER, "drops-errors"),
        "SERVER_SOFTWARE of a web server that logs nothing of FCGI_STDERR, unless it is told to and new enough",
        (CADDY,),
        "As it came; what goes to `wsgi.errors` stands in the application's own log, too",
        request.DROPS_ERRORS,
    ),
    Quirk(
        *(_OTHER, "empties-redirects"),
        "SERVER_SOFTWARE of a web server that makes an empty 200 of a Location alone (of Apache's modules "
        "mod_proxy_fcgi does)",
        (*APACHE, CADDY),
        "As it came; a redirect of a native handler (`send_redirect`) has its Status, too",
        response.EMPTIES_REDIRECTS,
    ),
    Quirk(
        *(_OTHER, "follows-locations"),
        "SERVER_SOFTWARE of a web server that answers with what a Location leads to, where the status is 200 (of "
        "Apache's modules not mod_proxy_fcgi)",
        (FCGID, CGID),
        "As it came; the Location of an application's 200 is left out, and the log has a warning",
        response.follows_location,
    ),
    Quirk(
        *(_OTHER, "loses-ranges"),
        "SERVER_SOFTWARE of a web server that sends nothing of a range out of a file that came as fast as it reads",
        (LIGHTTPD,),
        "As it came; no more of a file waits in its socket than of other bodies",
        response.loses_ranges,
    ),
    Quirk(
        *(_OTHER, "heeds-parting"),
        "SERVER_SOFTWARE of a web server that closes an idle connection on which anything arrives",
        (NGINX, HAPROXY),
        "As it came; a kept connection ends so that no request on its way is lost",
        parting.heeds_parting,
    ),
)
"""All that is known, in the order of :data:`TOPICS`."""
