"""A Flask application that sends every kind of answer through FastCGI.

It is plain Flask and knows nothing of FastCGI: any WSGI server can run it. Beside the usual pages it has routes that
tell what an application sees and what a browser gets, which makes it useful for checking a web server's configuration.
Run it as README.md says. It shows its visitors how the server is set up, so keep it from the open internet.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import time
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from flask import Flask, Response, abort, flash, jsonify, redirect, render_template, request, url_for
from werkzeug.formparser import FormDataParser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer
    from flask.typing import ResponseReturnValue

BLOCK_SIZE = 64 * 1024
NOISE = hashlib.shake_256(b"an example").digest(BLOCK_SIZE - 8)
LARGEST_DOWNLOAD = 1 << 30
LONGEST_PAUSE = 10.0
MOST_LINES = 10_000

app = Flask(__name__)
# It signs the cookie that carries a message over the redirect. With several worker processes they must share it.
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it


class Digest(io.BytesIO):
    """A file that keeps only the size and the SHA-256 of what is written to it, so that no upload is ever stored."""

    def __init__(self) -> None:
        """Start with nothing written."""
        super().__init__()
        self.size = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: ReadableBuffer, /) -> int:
        """Count the data and forget it."""
        length = memoryview(data).nbytes
        self._sha256.update(data)
        self.size += length
        return length

    def facts(self) -> dict[str, int | str]:
        """Tell what is known about the bytes so far."""
        return {"size": self.size, "sha256": self._sha256.hexdigest()}


def number(name: str, default: float, largest: float) -> float:
    """Give a number from the query string, kept between 0 and the largest that this demonstration allows."""
    return min(largest, max(0, request.args.get(name, default, type=float)))  # in this order "nan" becomes 0


@app.get("/")
def index() -> str:
    """Show the way this page took, and links to everything else."""
    return render_template("index.html", flask_version=version("flask"), threads=request.environ["wsgi.multithread"])


# Forms, uploads, downloads


@app.route("/form", methods=["GET", "POST"])
def form() -> ResponseReturnValue:
    """Take a form, then redirect, so that reloading the page does not send the form again."""
    if request.method != "POST":  # HEAD is as GET
        return render_template("form.html", given={})
    name = request.form.get("name", "").strip()
    if not name:
        return render_template("form.html", given=request.form, error="Please tell a name."), 400
    letters = len(request.form.get("message", ""))
    flash(f"Thank you, {name}. Your message of {letters} characters has arrived.")
    return redirect(url_for("form"), 303)


@app.route("/upload", methods=["GET", "POST"])
def upload() -> ResponseReturnValue:
    """Take a file from a form and tell its size and SHA-256."""
    if request.method != "POST":  # HEAD is as GET
        return render_template("upload.html")
    # request.files would spool each file to the disk first; this parser hands the parts on as they arrive.
    parser = FormDataParser(stream_factory=lambda *_, **__: Digest(), max_form_memory_size=500_000, max_form_parts=100)
    _, _, files = parser.parse(request.stream, request.mimetype, request.content_length, request.mimetype_params)
    file = files.get("file")
    if file is None or not file.filename or not isinstance(file.stream, Digest):
        return render_template("upload.html", error="Please choose a file."), 400
    result = {"name": file.filename, **file.stream.facts()}
    if request.accept_mimetypes.best == "application/json":
        return jsonify(result)
    return render_template("upload.html", result=result)


@app.route("/upload/raw", methods=["PUT", "POST"])
def upload_raw() -> Response:
    """Take any body, with or without a Content-Length, and tell its size and SHA-256."""
    digest = Digest()
    shutil.copyfileobj(request.stream, digest, BLOCK_SIZE)
    return jsonify(digest.facts())


def blocks(size: int) -> Iterator[bytes]:
    """Make the bytes of a download: always the same, and no two blocks alike, so that none can be lost unnoticed."""
    for start in range(0, size, BLOCK_SIZE):
        block = start.to_bytes(8) + NOISE
        yield block[: size - start]


@lru_cache(maxsize=64)
def checksum(size: int) -> str:
    """Give the SHA-256 of a download, worked out once for each size."""
    sha256 = hashlib.sha256()
    for block in blocks(size):
        sha256.update(block)
    return sha256.hexdigest()


@app.get("/download/<int:size>")
def download(size: int) -> Response:
    """Send so many bytes, together with their checksum. If-None-Match and Range work, as they do for a file."""
    if size > LARGEST_DOWNLOAD:
        abort(400, f"At most {LARGEST_DOWNLOAD} bytes.")
    response = Response(blocks(size), mimetype="application/octet-stream")
    response.content_length = size
    response.headers["Content-Disposition"] = f'attachment; filename="{size}.bin"'
    response.headers["X-Checksum-SHA256"] = checksum(size)
    response.set_etag(checksum(size))
    response.make_conditional(request, accept_ranges=True, complete_length=size)
    return response


# Answers that take their time


@app.get("/stream")
def stream() -> Response:
    """Send line by line: `count` of them, `interval` seconds apart."""
    count, interval = int(number("count", 10, MOST_LINES)), number("interval", 0.5, LONGEST_PAUSE)

    def lines() -> Iterator[str]:
        for line in range(1, count + 1):
            yield f"line {line} of {count}\n"
            if line < count:
                time.sleep(interval)

    # nginx collects an answer before it passes it on, unless this header tells it not to. It must be "no", not "off".
    return Response(lines(), mimetype="text/plain", headers={"X-Accel-Buffering": "no"})


@app.get("/events")
def events() -> Response:
    """Send `count` server-sent events, `interval` seconds apart. Each visitor who watches keeps a thread busy."""
    count, interval = int(number("count", 10, MOST_LINES)), number("interval", 1, LONGEST_PAUSE)

    def messages() -> Iterator[str]:
        for event in range(1, count + 1):
            facts = {"event": event, "count": count, "time": time.strftime("%H:%M:%S")}
            yield f"data: {json.dumps(facts)}\n\n"
            time.sleep(interval)
        # Without it a browser would take the end for an accident, and ask again.
        yield "event: end\ndata: {}\n\n"

    return Response(messages(), mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


@app.get("/slow")
def slow() -> Response:
    """Wait for so many `seconds`, then answer."""
    seconds = number("seconds", 2, LONGEST_PAUSE)
    time.sleep(seconds)
    return jsonify(slept=seconds)


# What the application sees


@app.get("/url")
def url_facts() -> Response:
    """Tell where the application believes itself to be, and the URLs that it makes of that."""
    return jsonify(
        {
            "method": request.method,
            "script_root": request.script_root,
            "path": request.path,
            "full_path": request.full_path,
            "url": request.url,
            "scheme": request.scheme,
            "host": request.host,
            "remote_addr": request.remote_addr,
            "relative": url_for("url_facts"),
            "external": url_for("url_facts", _external=True),
            "relative_with_name": url_for("unicode", name="grün/weiß", q="ä&b"),
            "external_with_name": url_for("unicode", name="grün/weiß", q="ä&b", _external=True),
            "static": url_for("static", filename="style.css"),
        }
    )


@app.get("/unicode/<path:name>")
def unicode(name: str) -> Response:
    """Send a name from the URL back, with the URL made of it."""
    return jsonify(name=name, query=request.args.to_dict(flat=False), url=url_for("unicode", name=name))


@app.get("/environ")
def environ() -> Response:
    """Show the whole WSGI environ, as far as it is text."""
    return jsonify({key: value for key, value in sorted(request.environ.items()) if isinstance(value, str)})


# Statuses, headers, errors


@app.get("/status/<int:code>")
def status(code: int) -> Response:
    """Answer with the given status. 204 and 304 have no body, and Flask sees to that."""
    if not 200 <= code <= 599:
        abort(400, "A status from 200 to 599, please.")
    return Response("" if code in {204, 304} else f"status {code}\n", status=code, mimetype="text/plain")


@app.get("/redirect")
def redirection() -> ResponseReturnValue:
    """Send the browser to the first page, with the redirect `code` asked for."""
    code = request.args.get("code", 302, type=int)
    if code not in {301, 302, 303, 307, 308}:
        abort(400, "301, 302, 303, 307 or 308, please.")
    return redirect(url_for("index"), code)


@app.get("/cookies")
def cookies() -> Response:
    """Set several cookies at once, and show those that came back from an earlier visit."""
    response = jsonify(request.cookies)
    path = request.script_root or "/"
    response.set_cookie("flavour", "chocolate", path=path, samesite="Lax")
    response.set_cookie("topping", "nuts, raisins; honey", path=path, samesite="Lax")
    response.set_cookie("secret", "recipe", path=path, samesite="Strict", httponly=True)
    return response


@app.get("/error/before")
def error_before() -> Response:
    """Fail before the answer has begun: the visitor gets a plain 500, the error log gets the traceback."""
    raise RuntimeError("this application failed before its answer began")


@app.get("/error/during")
def error_during() -> Response:
    """Fail in the middle of an answer: the visitor's download must be seen to break off."""

    def lines() -> Iterator[str]:
        yield "This answer begins well.\n"
        raise RuntimeError("this application failed in the middle of its answer")

    return Response(lines(), mimetype="text/plain")


@app.errorhandler(404)
def missing(_: Exception) -> ResponseReturnValue:
    """Say in the application's own clothes that there is no such page."""
    return render_template("missing.html"), 404
