"""The Flask example, and what only tests want of an application."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Response, request, send_file

from examples.flask_app.app import app

from .recursion import descend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PLAIN = app.wsgi_app


@app.before_request
def tell() -> None:
    """Say in the log that a request is under way."""
    if request.path == "/slow":
        print("began", request.full_path, file=sys.stderr, flush=True)


def ask_for_the_end(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Raise what no framework catches."""
    if environ["PATH_INFO"] == "/probe/exit":
        raise SystemExit("this application called for its end")
    return PLAIN(environ, start_response)


app.wsgi_app = ask_for_the_end  # type: ignore[method-assign]


# Files tell what one process knows to the next, and to the test.


@app.get("/probe/handshake")
def handshake() -> Response:
    """Send a line; the next one, or a failure, only after the file `seen` is there."""
    seen = Path(request.args["seen"])
    fails = "fails" in request.args

    def lines() -> Iterator[str]:
        yield "first\n"
        for _ in range(6000):
            if seen.exists():
                if fails:
                    raise RuntimeError("this application failed in the middle of its answer")
                yield "second\n"
                break
            time.sleep(0.01)

    return Response(lines(), mimetype="text/plain", headers={"X-Accel-Buffering": "no"})


@app.get("/probe/endless")
def endless() -> Response:
    """Send lines until the client leaves; then make the file `closed`."""
    closed = Path(request.args["closed"])

    def lines() -> Iterator[str]:
        try:
            while True:
                yield "another line\n"
                time.sleep(0.05)
        finally:
            closed.touch()

    return Response(lines(), mimetype="text/plain", headers={"X-Accel-Buffering": "no"})


@app.get("/probe/deep")
def deep() -> Response:
    """Fail at the bottom of a deep recursion."""
    descend(100)
    raise AssertionError("never reached")


@app.get("/probe/short")
def short() -> Response:
    """Fail in the middle of an answer whose length was promised."""

    def lines() -> Iterator[str]:
        yield "This answer begins well.\n"
        raise RuntimeError("this application failed in the middle of its answer")

    return Response(lines(), mimetype="text/plain", headers={"Content-Length": "100000"})


@app.get("/probe/file")
def answer_with_file() -> Response:
    """The file that the query names, as Flask sends files; with `whole` ranges are left to the web server."""
    return send_file(request.args["path"], conditional="whole" not in request.args)


@app.put("/probe/told")
def read_what_is_told() -> dict[str, int]:
    """Read as much of the body as CONTENT_LENGTH tells, as Django and Falcon do."""
    environ = request.environ
    return {"read": len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))}


@app.route("/probe/location", methods=["GET", "POST"])
def located() -> Response:
    """An answer of the status that the query says, and a Location beside it."""
    return Response("the answer\n", int(request.args["code"]), {"Location": request.args["to"]})


@app.get("/probe/wide")
def wide() -> Response:
    """As many fields of a kilobyte as the query says."""
    return Response("wide\n", headers=[("X-Wide", "w" * 1000)] * int(request.args["fields"]))


@app.get("/probe/complaint")
def complaint() -> Response:
    """Complain to `wsgi.errors`, and answer without a body."""
    request.environ["wsgi.errors"].write("a complaint\n")
    return Response(status=302, headers={"Location": "http://other.example/"})


@app.get("/probe/complaints")
def complaints() -> Response:
    """Complain to `wsgi.errors` as often as the query says, with a piece of the answer before each."""
    errors, count = request.environ["wsgi.errors"], int(request.args["count"])

    def lines() -> Iterator[str]:
        for number in range(count):
            yield f"line {number}\n"
            errors.write(f"complaint {number}\n" * 16)

    return Response(lines(), mimetype="text/plain")
