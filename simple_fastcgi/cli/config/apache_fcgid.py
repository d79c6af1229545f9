"""Apache's mod_fcgid, which starts the application itself: a virtual host, or .htaccess; and the script for both."""

from __future__ import annotations

from .apache_proxy import host_lines, in_order, site_path, static_lines, too_large_lines
from .plan import Configuration, File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan

_LONGEST_SECONDS = 3600
_PROCESSES = 4
"""Unless told otherwise: each has one request at a time."""

_SITE = """\
# {app}, started by Apache's mod_fcgid. Made by: simple-fastcgi config apache-fcgid
# For an Apache of your own, with {script}. On shared hosting .htaccess takes this file's place.

{listen}<VirtualHost {address}>
{server_name}
    # With a certificate (a2enmod ssl; the port above is 443 then):
    # SSLEngine on
    # SSLCertificateFile    /etc/ssl/{certificate}.pem
    # SSLCertificateKeyFile /etc/ssl/{certificate}.key

    # Without it Apache answers 404 to each URL that has a %2F in it.
    AllowEncodedSlashes On
{aliases}
    # A process has one request at a time: so many are served at once, and others wait.
    FcgidMaxProcessesPerClass {workers}
    # So many stay when there is nothing to do; others end after five minutes.
    FcgidMinProcessesPerClass 1
    # Bytes of an upload: {max_body_size} MiB, and a 500 for more. By itself mod_fcgid takes 128 KiB.
    FcgidMaxRequestLen {max_body_bytes}
    # The right answer to a larger one, where its length is told beforehand. Not LimitRequestBody: with it the
    # application gets an empty body instead.
{too_large}
    # Seconds, for the first piece of an answer, and between two.
    FcgidIOTimeout {timeout}
    # Seconds for a whole request, slow downloads and streams too; its process is killed then.
    FcgidBusyTimeout {longest}
    # Each piece of an answer goes to the visitor at once; without it 64 KiB are collected first.
    FcgidOutputBufferSize 0

    <Directory "{directory}">
        <Files "index.fcgi">
            SetHandler fcgid-script
            # Without it Apache keeps back what the visitor's browser proves who it is with (Authorization).
            CGIPassAuth On
            Require all granted
        </Files>
    </Directory>
</VirtualHost>
"""
_APPLICATION = """
    ScriptAlias "{mount}" "{script}{slash}"
"""
_HTACCESS = """\
# {app} on shared hosting, started by mod_fcgid. Made by: simple-fastcgi config apache-fcgid
# It belongs into the folder of the web site, or into one below it, together with index.fcgi.

# If "Options ExecCGI is off in this directory" is in the error log, and the host lets you:
# Options +ExecCGI
AddHandler fcgid-script .fcgi

RewriteEngine On

# Without it Apache keeps back what the visitor's browser proves who it is with (Authorization).
RewriteCond %{{HTTP:Authorization}} .
RewriteRule ^ - [E=HTTP_AUTHORIZATION:%{{HTTP:Authorization}}]

# The script is nobody's address: there is one URL for each page.
RewriteCond %{{ENV:REDIRECT_STATUS}} ^$
RewriteRule ^index\\.fcgi(/|$) - [R=404,L]

# The application's code and data belong elsewhere; what lies here all the same is for no visitor, and neither is what
# databases, editors and hosts put beside it.
RewriteCond %{{REQUEST_FILENAME}} -f
RewriteRule (^|/)(#|\\.(?!well-known/)|error_log([-./]|$))|(~|\\.(bak|backup|old|orig|save|swp|tmp))(/|$) - [F]
RewriteCond %{{REQUEST_FILENAME}} -f
RewriteRule \\.(pyc?|env|ini|cfg|toml|sql(ite3?)?|db|log)(-wal|-shm|-journal|\\.[0-9]+)?(\\.(gz|bz2|xz|zip))?(/|$) - [F]

# Files that are here are served as they are, all other URLs by the application. It takes the path from the URL: with
# index.fcgi/$1 Apache would refuse each URL that has a %3F in it.
RewriteCond %{{REQUEST_FILENAME}} !-f
RewriteRule ^ index.fcgi [L]
"""
_SCRIPT = """\
#!{python}
# {app}, started by Apache's mod_fcgid. Made by: simple-fastcgi config apache-fcgid
# It has to be executable (chmod 755). Touch it, or a file restart.txt beside it, after a change of the code.
import sys

sys.path.insert(0, "{directory}")

from simple_fastcgi import serve

# mod_fcgid gives a process one request at a time, for which one thread is enough.
serve("{app}", {options}threads=1, reload_on_touch=True)
"""
_ADVICE = """\
With an Apache of your own: write {path}
and {script} (--output DIR writes them), then, as root:
    chmod 755 {script}
    a2enmod fcgid
    a2ensite {name}
    apachectl configtest && apachectl graceful
The web server's user has to be able to read {directory}, and to run {python}.
On shared hosting: put .htaccess and index.fcgi into the web site's folder (public_html, htdocs, ...), or into one below
it; the application and its virtual environment stay outside. index.fcgi has to be executable: chmod 755.
Nothing else is to be run. Messages and tracebacks are in Apache's error log.
"""
_BIND = """\
--bind is passed over: Apache opens a socket for each process that it starts.
"""


def configure(plan: Plan) -> Configuration:
    """Make it."""
    mount = plan.root_path
    script = f"{plan.directory.rstrip('/')}/index.fcgi"
    path = site_path(plan)
    # Below a mount point both go without the slash: so the mount point itself is the application's, too.
    application = _APPLICATION.format(mount=mount or "/", script=script, slash="" if mount else "/")
    site = _SITE.format(
        **host_lines(plan),
        app=plan.app,
        script=script,
        directory=plan.directory,
        aliases=in_order({mount: application, **static_lines(plan, proxied=False)}),
        workers=plan.workers or _PROCESSES,
        max_body_size=plan.max_body_size,
        max_body_bytes=plan.max_body_size << 20,
        too_large=too_large_lines(plan),
        timeout=plan.timeout,
        longest=max(plan.timeout, _LONGEST_SECONDS),
    )
    start = _SCRIPT.format(
        python=plan.python, app=plan.app, directory=plan.directory, options="factory=True, " if plan.factory else ""
    )
    files = (
        File(path, site),
        File(f"public_html{mount}/.htaccess", _HTACCESS.format(app=plan.app)),
        File(script, start, executable=True),
    )
    advice = _ADVICE.format(path=path, script=script, name=plan.name, directory=plan.directory, python=plan.python)
    if plan.bind is not None:
        advice += _BIND
    return Configuration(files, advice)
