"""Flask, as small as it gets."""

from __future__ import annotations

from flask import Flask, Response

app = Flask(__name__)


@app.get("/")
def hello() -> Response:
    return Response("Hello, World!", mimetype="text/plain")


@app.get("/item/<int:number>")
def item(number: int) -> Response:
    from flask import request

    text = f"{request.path}?{request.query_string.decode()} {request.headers.get('X-Request-Id', '')}"
    return Response(text, mimetype="text/plain")
