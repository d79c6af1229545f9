"""The same site in Starlette and in Flask: what requests like those of their own test suites ask for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import flask
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
LARGE = "x" * 20_000
FILE = bytes(range(256)) * 1024


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def starlette_app(folder: Path) -> Starlette:
    path = folder / "file.bin"
    path.write_bytes(FILE)

    async def facts(request: Request) -> Response:
        form_free = await request.body()
        return JSONResponse(
            {
                "method": request.method,
                "url": str(request.url),
                "path": request.url.path,
                "query": request.query_params.multi_items(),
                "host": request.headers.get("host"),
                "type": request.headers.get("content-type"),
                "length": request.headers.get("content-length"),
                "odd": request.headers.get("x-odd"),
                "authorization": request.headers.get("authorization"),
                "large": len(request.headers.get("x-large", "")),
                "size": len(form_free),
                "digest": digest(form_free),
            }
        )

    async def form(request: Request) -> Response:
        found: list[list[object]] = []
        async with request.form() as fields:
            for name, value in fields.multi_items():
                if isinstance(value, str):
                    found.append([name, value])
                else:
                    content = await value.read()
                    found.append([name, value.filename, value.content_type, len(content), digest(content)])
        return JSONResponse(found)

    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type=request.headers.get("content-type"))

    async def echo_stream(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in request.stream():
                    yield piece
            except ClientDisconnect:
                pass

        return StreamingResponse(pieces())

    async def stream(_: Request) -> Response:
        async def lines() -> AsyncIterator[str]:
            for number in range(5):
                yield f"line {number}\n"

        return StreamingResponse(lines(), media_type="text/plain")

    async def set_cookies(_: Request) -> Response:
        response = PlainTextResponse("set")
        response.set_cookie("flavour", "chocolate", path="/")
        response.set_cookie("topping", "nuts", path="/cookies", httponly=True, samesite="strict")
        response.set_cookie("gone", "", expires="Thu, 01 Jan 1970 00:00:00 GMT")
        return response

    async def show_cookies(request: Request) -> Response:
        return JSONResponse(dict(sorted(request.cookies.items())))

    async def redirect(request: Request) -> Response:
        return RedirectResponse("/facts?from=redirect", status_code=int(request.path_params["code"]))

    async def status(request: Request) -> Response:
        return Response(status_code=int(request.path_params["code"]))

    async def several(_: Request) -> Response:
        response = PlainTextResponse("several")
        for value in ("one", "two", "three, four"):
            response.headers.append("X-Several", value)
        return response

    async def large_head(_: Request) -> Response:
        return PlainTextResponse("large", headers={"X-Large": LARGE})

    async def file(_: Request) -> Response:
        return FileResponse(path, headers={"last-modified": "Sat, 01 Jan 2000 00:00:00 GMT", "etag": '"one"'})

    async def failing(_: Request) -> Response:
        raise ValueError("it fails")

    async def later(_: Request) -> Response:
        return PlainTextResponse("later", background=BackgroundTask(lambda: None))

    async def url(request: Request) -> Response:
        return PlainTextResponse(str(request.url_for("several")))

    async def unicode(request: Request) -> Response:
        return JSONResponse({"name": request.path_params["name"], "path": request.url.path})

    return Starlette(
        routes=[
            Route("/facts", facts, methods=METHODS),
            Route("/form", form, methods=["POST"]),
            Route("/echo", echo, methods=["POST", "PUT"]),
            Route("/echo-stream", echo_stream, methods=["POST"]),
            Route("/stream", stream),
            Mount("/cookies", routes=[Route("/set", set_cookies), Route("/show", show_cookies)]),
            Route("/redirect/{code:int}", redirect, methods=["GET", "POST"]),
            Route("/status/{code:int}", status),
            Route("/several", several, name="several"),
            Route("/large-head", large_head),
            Route("/file", file),
            Route("/failing", failing),
            Route("/later", later),
            Route("/url", url),
            Route("/unicode/{name:path}", unicode),
        ]
    )


def flask_app(folder: Path) -> flask.Flask:
    path = folder / "file.bin"
    path.write_bytes(FILE)
    app = flask.Flask(__name__)
    request = flask.request

    def route(rule: str, methods: list[str] | None = None) -> Callable[[Callable[..., object]], object]:
        def add(view: Callable[..., object]) -> object:
            app.add_url_rule(rule, view_func=view, methods=methods)  # type: ignore[arg-type]
            return view

        return add

    @route("/facts", METHODS)
    def facts() -> flask.Response:
        body = request.get_data()
        return flask.jsonify(
            method=request.method,
            url=request.url,
            path=request.path,
            query=list(request.args.items(multi=True)),
            host=request.headers.get("host"),
            type=request.headers.get("content-type"),
            length=request.headers.get("content-length"),
            odd=request.headers.get("x-odd"),
            authorization=request.headers.get("authorization"),
            large=len(request.headers.get("x-large", "")),
            size=len(body),
            digest=digest(body),
        )

    @route("/form", ["POST"])
    def form() -> flask.Response:
        found: list[list[object]] = [[name, value] for name, value in request.form.items(multi=True)]
        for name, file in request.files.items(multi=True):
            content = file.read()
            found.append([name, file.filename, file.content_type, len(content), digest(content)])
        return flask.jsonify(found)

    @route("/echo", ["POST", "PUT"])
    def echo() -> flask.Response:
        return flask.Response(request.get_data(), content_type=request.headers.get("content-type"))

    @route("/echo-stream", ["POST"])
    def echo_stream() -> flask.Response:
        stream = request.environ["wsgi.input"]
        return flask.Response(iter(lambda: stream.read(8192), b""), content_type="application/octet-stream")

    @route("/stream")
    def stream() -> flask.Response:
        def lines() -> Iterator[str]:
            for number in range(5):
                yield f"line {number}\n"

        return flask.Response(lines(), mimetype="text/plain")

    @route("/cookies/set")
    def set_cookies() -> flask.Response:
        response = flask.Response("set")
        response.set_cookie("flavour", "chocolate", path="/")
        response.set_cookie("topping", "nuts", path="/cookies", httponly=True, samesite="Strict")
        response.set_cookie("gone", "", expires=0)
        return response

    @route("/cookies/show")
    def show_cookies() -> flask.Response:
        return flask.jsonify(dict(sorted(request.cookies.items())))

    @route("/redirect/<int:code>", ["GET", "POST"])
    def redirect(code: int) -> object:
        return flask.redirect("/facts?from=redirect", code)

    @route("/status/<int:code>")
    def status(code: int) -> flask.Response:
        return flask.Response(status=code)

    @route("/several")
    def several() -> flask.Response:
        response = flask.Response("several")
        for value in ("one", "two", "three, four"):
            response.headers.add("X-Several", value)
        return response

    @route("/large-head")
    def large_head() -> flask.Response:
        return flask.Response("large", headers={"X-Large": LARGE})

    @route("/file")
    def file() -> flask.Response:
        return flask.send_file(path, conditional=True, etag="one", last_modified=946684800)

    @route("/failing")
    def failing() -> str:
        raise ValueError("it fails")

    @route("/later")
    def later() -> flask.Response:
        response = flask.Response("later")
        response.call_on_close(lambda: None)
        return response

    @route("/url")
    def url() -> str:
        return flask.url_for("several", _external=True)

    @route("/unicode/<path:name>")
    def unicode(name: str) -> flask.Response:
        return flask.jsonify(name=name, path=request.path)

    return app
