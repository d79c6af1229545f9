"""What can be said on the command line of ``call``, in curl's words where curl has them."""

from __future__ import annotations

from argparse import (
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    BooleanOptionalAction,
    Namespace,
    RawDescriptionHelpFormatter,
)
from functools import partial
from getopt import GetoptError, gnu_getopt

from ..arguments import seconds
from . import status
from .status import STATUSES, CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_REPEAT = 1_000_000
CONNECT_TIMEOUT = 5.0
"""Seconds."""
VALUES_TIMEOUT = 5.0
"""For --get-values, where --max-time says nothing: applications that do not know the question may just be silent."""
_MAX_SECONDS = 1_000_000

_EXAMPLES = """\
examples:
  simple-fastcgi call unix:/run/app.sock /path?x=1 -i
      an application, as a web server with "fastcgi_pass unix:/run/app.sock;" would call it
  simple-fastcgi call unix:/run/php/php-fpm.sock /shop/ --document-root /var/www
      PHP-FPM: /var/www/shop/index.php
  simple-fastcgi call unix:/run/php/php-fpm.sock /any/path --script /var/www/index.php
      one script for all paths, as behind nginx's try_files
  simple-fastcgi call unix:/run/php/php-fpm.sock /status --script /status
      PHP-FPM's status page (pm.status_path = /status)
  simple-fastcgi call 127.0.0.1:9000 https://example.org/login -d name=ali -v
      with Host, SERVER_NAME and HTTPS of that URL; -v shows all parameters and records
  simple-fastcgi call 127.0.0.1:9000 /health -sf -m 2 -o /dev/null
      for a health check: the exit status tells
  simple-fastcgi call 127.0.0.1:9000 / --repeat 1000
      how long requests take
"""

# Options of curl's that people will try, and why they are not here.
_LEFT_OUT = {
    "-L": "redirects are not followed: look at Location with -i",
    "--location": "redirects are not followed: look at Location with -i",
    "-k": "FastCGI has no TLS",
    "--insecure": "FastCGI has no TLS",
    "-x": "FastCGI has no proxies",
    "--proxy": "FastCGI has no proxies",
    "--unix-socket": "write unix:PATH as the TARGET",
    "-O": "give the file's name with -o",
    "--remote-name": "give the file's name with -o",
    "-c": "cookies are not kept: send them with -b",
    "--cookie-jar": "cookies are not kept: send them with -b",
    "--compressed": "the response is put out as it comes",
    "--url": "give the URL behind the TARGET",
    "-Z": "one request at a time is sent",
    "--parallel": "one request at a time is sent",
}


def parse(words: Sequence[str]) -> Namespace:
    """The arguments in `words`; CallError for wrong ones. Ends the process behind ``--help``.

    They are read as curl reads its own: options stand anywhere, short ones together, and what stands behind an option
    that takes a value is its value, whatever it looks like.
    """
    parser = _parser()
    arguments = parser.parse_args([])
    targets = _read(parser, words, arguments)
    if not 1 <= len(targets) <= 2:
        why = "give the TARGET to call" if not targets else f"a TARGET and a URL are enough: {targets[2]!r} is too much"
        raise CallError(status.USAGE, f"{why}; see simple-fastcgi call --help")
    arguments.target, arguments.url = targets[0], targets[1] if len(targets) == 2 else "/"
    _check(arguments, with_url=len(targets) == 2)
    return arguments


def _read(parser: ArgumentParser, words: Sequence[str], arguments: Namespace) -> list[str]:
    """Put the options into `arguments`; the rest.

    The parser knows them, but reads them otherwise: to argparse, what begins with a dash is no value.
    """
    actions = {name: action for action in parser._actions for name in action.option_strings}
    short = "".join(name[1] + (":" if action.nargs != 0 else "") for name, action in actions.items() if name[1] != "-")
    long = [name[2:] + ("=" if action.nargs != 0 else "") for name, action in actions.items() if name[:2] == "--"]
    try:
        options, rest = gnu_getopt(list(words), short, long)
    except GetoptError as error:
        name = f"--{error.opt}" if len(error.opt) > 1 else f"-{error.opt}"
        cure = _LEFT_OUT.get(name, "see simple-fastcgi call --help")
        raise CallError(status.USAGE, f"{error.msg}: {cure}") from None
    for name, text in options:
        action = actions[name]
        try:
            value = None if action.nargs == 0 else parser._get_value(action, text)
            parser._check_value(action, value)
        except ArgumentError as error:
            raise CallError(status.USAGE, str(error).removeprefix("argument ")) from None
        action(parser, arguments, value, name)
    return rest


def _check(arguments: Namespace, *, with_url: bool) -> None:
    arguments.has_body = bool(arguments.data or arguments.form) and not arguments.get
    bodies = [name for name, there in (("-d", arguments.data), ("-F", arguments.form)) if there]
    if arguments.upload_file is not None:
        bodies.append("-T")
    if arguments.head and not arguments.get:
        bodies.insert(0, "-I")
    if len(bodies) > 1:
        raise CallError(status.USAGE, f"{' and '.join(bodies)} contradict each other: give one of them")
    if arguments.get and (arguments.form or arguments.upload_file is not None):
        raise CallError(status.USAGE, f"-G is for -d, not for {bodies[-1]}")
    if arguments.repeat is not None:
        for name, there in (
            *(("-o", arguments.output), ("-i", arguments.include), ("-D", arguments.dump_header)),
            *(("-w", arguments.write_out), ("-v", arguments.verbose), ("-I", arguments.head and arguments.include)),
        ):
            if there:
                raise CallError(status.USAGE, f"--repeat measures, and puts no response out: leave {name} away")
    if arguments.get_values:
        if with_url or bodies or arguments.repeat is not None:
            raise CallError(
                status.USAGE, "--get-values asks a question of its own: give no URL, body or --repeat with it"
            )


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="simple-fastcgi call",
        usage="simple-fastcgi call TARGET [URL] [options]",
        description="curl for FastCGI: call an application, PHP-FPM or any other FastCGI server, as a web server\n"
        "would, and see what it answers. Options have curl's names and meanings where curl has them.\n\n"
        "TARGET is unix:PATH, unix:@NAME, HOST:PORT or [IPv6]:PORT. URL is a path with its query (default: /), or\n"
        "http://HOST/PATH, which tells the application the name, port and scheme that a browser would have used.",
        epilog=_EXAMPLES + _exit_statuses(),
        formatter_class=lambda prog: RawDescriptionHelpFormatter(prog, max_help_position=34, width=110),
        allow_abbrev=False,
        add_help=False,
    )
    _add_request_options(parser)
    _add_application_options(parser)
    _add_output_options(parser)
    _add_other_options(parser)
    return parser


def _add_request_options(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("the request").add_argument
    add("-X", "--request", metavar="METHOD", help="GET is the default, POST with -d and -F, PUT with -T, HEAD with -I")
    add(
        "-H",
        "--header",
        action="append",
        dest="headers",
        default=[],
        metavar="FIELD",
        help="a header field, 'Name: value'; 'Name;' is an empty one, 'Name:' takes one of call's own away",
    )

    def data(kind: str) -> Callable[[str], tuple[str, str]]:
        return lambda text: (kind, text)

    for kind, names, metavar, text in (
        (
            "data",
            ("-d", "--data", "--data-ascii"),
            "DATA",
            "the body, as of a form; @FILE without its line ends, @- stdin",
        ),
        ("binary", ("--data-binary",), "DATA", "the same, a file byte for byte"),
        ("raw", ("--data-raw",), "DATA", "the same, @ means nothing"),
        ("urlencode", ("--data-urlencode",), "DATA", "the same, encoded: CONTENT, NAME=CONTENT, @FILE, NAME@FILE"),
        ("json", ("--json",), "DATA", "as --data-binary, with the Content-Type and Accept of JSON"),
    ):
        add(*names, action="append", dest="data", default=[], type=data(kind), metavar=metavar, help=text)
    add("-G", "--get", action="store_true", help="put what -d gives into the query")
    for kind, form_names, text in (
        ("form", ("-F", "--form"), "a field of a form with files: NAME=VALUE, NAME=@FILE[;type=...][;filename=...]"),
        ("string", ("--form-string",), "the same, the value means nothing but itself"),
    ):
        add(*form_names, action="append", dest="form", default=[], type=data(kind), metavar="FIELD", help=text)
    add(
        "-T",
        "--upload-file",
        metavar="FILE",
        help="the body: a file, or - for stdin, sent as it comes, without a length",
    )
    add("-I", "--head", action="store_true", help="a HEAD request, and show the head of its response")
    add("-A", "--user-agent", metavar="NAME", help="the User-Agent field; empty for none")
    add("-e", "--referer", metavar="URL", help="the Referer field")
    add("-b", "--cookie", action="append", dest="cookies", default=[], metavar="NAME=VALUE", help="the Cookie field")
    add(
        "-u",
        "--user",
        metavar="USER:PASSWORD",
        help="the Authorization field (Basic); see also --param REMOTE_USER=...",
    )
    add("-r", "--range", metavar="RANGE", help="the Range field, in bytes: 0-499")


def _add_application_options(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("the application").add_argument
    add("--document-root", metavar="DIR", help="scripts below DIR, as PHP-FPM sees it: SCRIPT_FILENAME is DIR + path")
    add("--script", metavar="FILE", help="this script answers every path (SCRIPT_FILENAME)")
    add("--index", metavar="NAME", default="index.php", help="of a path that ends in / (default: %(default)s)")
    add("--root-path", metavar="PATH", help="where the application is mounted (SCRIPT_NAME); default: at the root")
    add(
        "--param",
        action="append",
        dest="params",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter (fastcgi_param of nginx), instead of the one that would be sent",
    )
    add("--no-param", action="append", dest="no_params", default=[], metavar="NAME", help="leave a parameter out")
    add(
        "--role", choices=("responder", "authorizer"), default="responder", help="FastCGI's role (default: %(default)s)"
    )
    add(
        "--keep-conn",
        action=BooleanOptionalAction,
        help="whether to ask that the connection be kept (default: with --repeat only)",
    )


def _add_output_options(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("what is shown").add_argument
    add("-i", "--include", action="store_true", help="the head of the response, too")
    add("-D", "--dump-header", metavar="FILE", help="write the head into FILE, - is stdout")
    add("-o", "--output", metavar="FILE", help="write the body into FILE instead of stdout")
    add(
        "-f",
        "--fail",
        action="store_true",
        help="HTTP 400 and above, and an application status, fail; no body is shown",
    )
    add("--fail-with-body", action="store_true", help="the same, but the body is shown")
    add("-v", "--verbose", action="store_true", help="all records and parameters, on stderr")
    add("-s", "--silent", action="store_true", help="no messages of call's own (FCGI_STDERR is shown all the same)")
    add("-S", "--show-error", action="store_true", help="with -s: errors are shown")
    add("-N", "--no-buffer", action="store_true", help="for the habit: output is never held back")
    add("-w", "--write-out", metavar="FORMAT", help="at the end, on stdout: '%%{http_code} %%{time_total}\\n'")


def _add_other_options(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("times, and other questions").add_argument
    add(
        "-m",
        "--max-time",
        type=partial(seconds, largest=_MAX_SECONDS),
        metavar="SECONDS",
        help="for all of it (default: no limit)",
    )
    add(
        "--connect-timeout",
        type=partial(seconds, largest=_MAX_SECONDS),
        default=CONNECT_TIMEOUT,
        metavar="SECONDS",
        help="until the connection is there (default: %(default)g)",
    )
    add("--repeat", type=_repeat, metavar="N", help="send it N times, one after the other, and tell how long it took")
    add("--get-values", action="store_true", help="ask for FCGI_MAX_CONNS, FCGI_MAX_REQS and FCGI_MPXS_CONNS")
    add("-h", "--help", action="help", help="show this text")


def _repeat(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and 1 <= int(text) <= MAX_REPEAT):
        raise ArgumentTypeError(f"{text!r}: give a number from 1 to {MAX_REPEAT}")
    return int(text)


def _exit_statuses() -> str:
    lines = [f"  {number:3}  {meaning}" for number, meaning in STATUSES.items()]
    return "\n".join(("\nexit status (curl's, where it has one):", *lines))
