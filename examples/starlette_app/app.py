"""A Starlette application that sends every kind of answer through FastCGI.

It is plain Starlette and needs nothing of FastCGI: any ASGI server can run it. Beside the usual pages it has
server-sent events, a background task and a state that lives as long as the process, and routes that tell what an
application sees and what a browser gets. Run it as README.md says. It shows its visitors how the server is set up,
so keep it from the open internet.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

HERE = Path(__file__).parent
BLOCK_SIZE = 64 * 1024
NOISE = hashlib.shake_256(b"an example").digest(BLOCK_SIZE - 8)
LARGEST_DOWNLOAD = 1 << 30
LONGEST_PAUSE = 10.0
MOST_LINES = 10_000
SHOWN = (
    *("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path"),
    *("headers", "client", "server", "extensions"),
)


@dataclass
class State:
    """What this process remembers from its start to its end."""

    started_at: str
    requests: int = 0
    sse_active: int = 0
    sse_left: int = 0
    background: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def facts(self) -> dict[str, Any]:
        """Give everything in a form fit for JSON."""
        return {**vars(self), "background": list(self.background), "pid": os.getpid()}


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, State]]:
    """Make the state when the process starts. Every request then finds it as request.state.demo."""
    yield {"demo": State(started_at=datetime.now(UTC).isoformat(timespec="seconds"))}


class CountRequests:
    """Counts the requests in the state."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count, and hand on."""
        if scope["type"] == "http":
            scope["state"]["demo"].requests += 1
        await self.app(scope, receive, send)


def path_for(request: Request, name: str, /, **parts: Any) -> str:
    """Give the path of a route, with the mount point before it.

    request.url_for gives whole URLs, and those are only as good as the Host that the web server tells. A link needs no
    host at all.
    """
    return request.url_for(name, **parts).path


templates = Jinja2Templates(
    HERE / "templates", context_processors=[lambda request: {"path_for": partial(path_for, request)}]
)


def number(request: Request, name: str, default: float, largest: float) -> float:
    """Give a number from the query string, kept between 0 and the largest that this demonstration allows."""
    try:
        given = float(request.query_params.get(name, default))
    except ValueError:
        given = default
    return min(largest, max(0, given))  # in this order "nan" becomes 0


async def index(request: Request) -> Response:
    """Show the way this page took, and links to everything else."""
    variables = request.scope.get("extensions", {}).get("fastcgi", {}).get("params", {})  # none on other servers
    return templates.TemplateResponse(
        request, "index.html", {"starlette_version": version("starlette"), "variables": variables}
    )


# Forms, uploads, downloads


async def form(request: Request) -> Response:
    """Show the form, with the message that a redirect has left in a cookie."""
    message = unquote(request.cookies.get("message", ""))
    response = templates.TemplateResponse(request, "form.html", {"message": message, "given": {}})
    if message:
        response.delete_cookie("message", path=path_for(request, "form"))
    return response


async def take_form(request: Request) -> Response:
    """Take the form, then redirect, so that reloading the page does not send the form again."""
    async with request.form() as given:
        name, message = str(given.get("name", "")).strip(), str(given.get("message", ""))
    if not name:
        context = {"given": {"message": message}, "error": "Please tell a name."}
        return templates.TemplateResponse(request, "form.html", context, 400)
    thanks = f"Thank you, {name}. Your message of {len(message)} characters has arrived."
    response = RedirectResponse(path_for(request, "form"), 303)
    response.set_cookie("message", quote(thanks[:1000]), 60, path=path_for(request, "form"), httponly=True)
    return response


async def upload(request: Request) -> Response:
    """Show the form for an upload."""
    return templates.TemplateResponse(request, "upload.html")


async def take_upload(request: Request) -> Response:
    """Take a file from a form and tell its size and SHA-256. Starlette puts what is large into a temporary file."""
    async with request.form(max_files=10) as given:
        file = given.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            return templates.TemplateResponse(request, "upload.html", {"error": "Please choose a file."}, 400)
        sha256 = hashlib.sha256()
        while block := await file.read(BLOCK_SIZE):
            sha256.update(block)
        result = {"name": file.filename, "size": file.size, "sha256": sha256.hexdigest()}
    if request.headers.get("accept") == "application/json":
        return JSONResponse(result)
    return templates.TemplateResponse(request, "upload.html", {"result": result})


async def upload_raw(request: Request) -> Response:
    """Take any body, with or without a Content-Length, and tell its size and SHA-256."""
    size, sha256 = 0, hashlib.sha256()
    async for block in request.stream():
        size += len(block)
        sha256.update(block)
    return JSONResponse({"size": size, "sha256": sha256.hexdigest()})


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


async def download(request: Request) -> Response:
    """Send so many bytes, together with their checksum."""
    size: int = request.path_params["size"]
    if size > LARGEST_DOWNLOAD:
        raise HTTPException(400, f"At most {LARGEST_DOWNLOAD} bytes.")
    digest = await asyncio.to_thread(checksum, size)
    etag = f'"{digest}"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"ETag": etag})

    async def body() -> AsyncIterator[bytes]:  # a plain generator would be run in a thread, block by block
        for block in blocks(size):
            yield block

    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{size}.bin"',
        "X-Checksum-SHA256": digest,
        "ETag": etag,
    }
    return StreamingResponse(body(), media_type="application/octet-stream", headers=headers)


# Answers that take their time


async def stream(request: Request) -> Response:
    """Send line by line: `count` of them, `interval` seconds apart."""
    count = int(number(request, "count", 10, MOST_LINES))
    interval = number(request, "interval", 0.5, LONGEST_PAUSE)

    async def lines() -> AsyncIterator[str]:
        for line in range(1, count + 1):
            yield f"line {line} of {count}\n"
            if line < count:
                await asyncio.sleep(interval)

    # nginx collects an answer before it passes it on, unless this header tells it not to. It must be "no", not "off".
    return StreamingResponse(lines(), media_type="text/plain", headers={"X-Accel-Buffering": "no"})


async def slow(request: Request) -> Response:
    """Wait for so many `seconds`, then answer."""
    seconds = number(request, "seconds", 2, LONGEST_PAUSE)
    await asyncio.sleep(seconds)
    return JSONResponse({"slept": seconds})


async def disconnected(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def left_within(request: Request, seconds: float) -> bool:
    """Wait so long, and tell whether the client has gone meanwhile; then at once."""
    try:
        await asyncio.wait_for(disconnected(request), seconds)
    except TimeoutError:
        return False
    return True


async def server_sent(request: Request) -> AsyncIterator[str]:
    """Make events until there are `count` of them, or else until the client leaves, and keep the books about that."""
    state: State = request.state.demo
    interval = number(request, "interval", 1, LONGEST_PAUSE)
    count = int(number(request, "count", 0, MOST_LINES))
    last = request.headers.get("last-event-id", "")  # a browser sends it when it connects again after a break
    first = int(last) + 1 if last.isdecimal() and len(last) < 16 else 1
    state.sse_active += 1
    left = True
    try:
        yield "retry: 2000\n\n"
        for event in itertools.count(first):
            data = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **state.facts()}
            yield f"id: {event}\ndata: {json.dumps(data)}\n\n"
            if event - first + 1 == count:
                left = False
                return
            if await left_within(request, interval):
                return
    finally:
        state.sse_active -= 1
        state.sse_left += left


async def events(request: Request) -> Response:
    """Send server-sent events.

    Behind nginx they would stall in its buffer; the gateway sends X-Accel-Buffering: no with this media type.
    """
    return StreamingResponse(
        server_sent(request), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def live(request: Request) -> Response:
    """Show the events in a page."""
    return templates.TemplateResponse(request, "live.html")


async def work(state: State, marker: str, seconds: float) -> None:
    """Do what takes longer than a visitor should wait for."""
    await asyncio.sleep(seconds)
    state.background.append(marker)


async def background(request: Request) -> Response:
    """Answer at once; the `marker` turns up in /state when the task has ended, `seconds` later."""
    marker = request.query_params.get("marker", "done")[:100]
    task = BackgroundTask(work, request.state.demo, marker, number(request, "seconds", 0.5, LONGEST_PAUSE))
    return JSONResponse({"accepted": marker, "see": path_for(request, "state")}, 202, background=task)


async def show_state(request: Request) -> Response:
    """Show what this process remembers."""
    return JSONResponse(request.state.demo.facts())


# What the application sees


async def url_facts(request: Request) -> Response:
    """Tell where the application believes itself to be, and the URLs that it makes of that."""
    scope = request.scope
    return JSONResponse(
        {
            "method": request.method,
            "root_path": scope.get("root_path", ""),
            "path": scope["path"],
            "raw_path": scope.get("raw_path", b"").decode("latin-1"),
            "query_string": scope["query_string"].decode("latin-1"),
            "url": str(request.url),
            "base_url": str(request.base_url),
            "scheme": request.url.scheme,
            "host": request.headers.get("host"),
            "remote_addr": request.client.host if request.client else None,
            "relative": path_for(request, "url_facts"),
            "external": str(request.url_for("url_facts")),
            "relative_with_name": path_for(request, "unicode", name=quote("grün/weiß")),
            "external_with_name": str(request.url_for("unicode", name=quote("grün/weiß"))),
            "static": path_for(request, "static", path="style.css"),
        }
    )


async def unicode(request: Request) -> Response:
    """Send a name from the URL back, with the URL made of it."""
    name: str = request.path_params["name"]
    query = {key: request.query_params.getlist(key) for key in request.query_params}
    return JSONResponse({"name": name, "query": query, "url": path_for(request, "unicode", name=quote(name))})


def plain(value: Any) -> Any:
    """Make JSON of what stands in a scope; what is neither text nor number nor a collection is only named."""
    match value:
        case bytes():
            return value.decode("latin-1")
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case None | str() | int() | float():
            return value
    return f"<{type(value).__name__}>"


async def environ(request: Request) -> Response:
    """Show the ASGI scope. The web server's own variables are among its extensions."""
    return JSONResponse({key: plain(request.scope[key]) for key in SHOWN if key in request.scope})


# Statuses, headers, errors


async def status(request: Request) -> Response:
    """Answer with the given status; 204 and 304 have no body."""
    code: int = request.path_params["code"]
    if not 200 <= code <= 599:
        raise HTTPException(400, "A status from 200 to 599, please.")
    if code in {204, 304}:
        return Response(status_code=code)
    return PlainTextResponse(f"status {code}\n", code)


async def redirection(request: Request) -> Response:
    """Send the browser to the first page, with the redirect `code` asked for."""
    code = request.query_params.get("code", "302")
    if code not in {"301", "302", "303", "307", "308"}:
        raise HTTPException(400, "301, 302, 303, 307 or 308, please.")
    return RedirectResponse(path_for(request, "index"), int(code))


async def cookies(request: Request) -> Response:
    """Set several cookies at once, and show those that came back from an earlier visit."""
    response = JSONResponse(request.cookies)
    path = request.scope.get("root_path") or "/"
    response.set_cookie("flavour", "chocolate", path=path)
    response.set_cookie("topping", "nuts, raisins; honey", path=path)
    response.set_cookie("secret", "recipe", path=path, samesite="strict", httponly=True)
    return response


async def error_before(_: Request) -> Response:
    """Fail before the answer has begun: the visitor gets a plain 500, the error log gets the traceback."""
    raise RuntimeError("this application failed before its answer began")


async def error_during(_: Request) -> Response:
    """Fail in the middle of an answer: the visitor's download must be seen to break off."""

    async def lines() -> AsyncIterator[str]:
        yield "This answer begins well.\n"
        raise RuntimeError("this application failed in the middle of its answer")

    return StreamingResponse(lines(), media_type="text/plain")


async def missing(request: Request, _: Exception) -> Response:
    """Say in the application's own clothes that there is no such page."""
    return templates.TemplateResponse(request, "missing.html", status_code=404)


app = Starlette(
    routes=[
        Route("/", index),
        Route("/form", form, name="form"),
        Route("/form", take_form, methods=["POST"]),
        Route("/upload", upload, name="upload"),
        Route("/upload", take_upload, methods=["POST"]),
        Route("/upload/raw", upload_raw, methods=["PUT", "POST"]),
        Route("/download/{size:int}", download),
        Route("/stream", stream),
        Route("/slow", slow),
        Route("/events", events),
        Route("/live", live),
        Route("/background", background),
        Route("/state", show_state, name="state"),
        Route("/url", url_facts),
        Route("/unicode/{name:path}", unicode),
        Route("/environ", environ),
        Route("/status/{code:int}", status),
        Route("/redirect", redirection),
        Route("/cookies", cookies),
        Route("/error/before", error_before),
        Route("/error/during", error_during),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ],
    exception_handlers={404: missing},
    middleware=[Middleware(CountRequests)],
    lifespan=lifespan,
)
