"""Frameworks as people set them up, each one behind real sockets: a project, the command line, requests, the end."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.webserver import WebServer, params_for
from tests.webservers.children import App, wait_until

if TYPE_CHECKING:
    from pathlib import Path

DJANGO = {
    "shop/__init__.py": "",
    "shop/settings.py": """\
SECRET_KEY = "not a secret"
ALLOWED_HOSTS = ["example.org"]
ROOT_URLCONF = "shop.urls"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
USE_TZ = True
""",
    "shop/urls.py": """\
from django.http import JsonResponse
from django.urls import path, reverse

def page(request, name):
    return JsonResponse({
        "name": name,
        "method": request.method,
        "query": request.GET.get("q"),
        "form": request.POST.get("field"),
        "cookie": request.COOKIES.get("a"),
        "url": request.build_absolute_uri(reverse("page", args=["x"])),
    })

urlpatterns = [path("pages/<name>", page, name="page")]
""",
    # As django-admin startproject writes them.
    "shop/wsgi.py": """\
import os
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = get_wsgi_application()
""",
    "shop/asgi.py": """\
import os
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = get_asgi_application()
""",
}
FLASK = """\
from flask import Flask, request, url_for

def create_app():
    app = Flask(__name__)

    @app.route("/pages/<name>", methods=["GET", "POST"])
    def page(name):
        return {
            "name": name,
            "method": request.method,
            "query": request.args.get("q"),
            "form": request.form.get("field"),
            "cookie": request.cookies.get("a"),
            "url": url_for("page", name="x", _external=True),
        }

    return app
"""
STARLETTE = """\
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def page(request):
    form = await request.form()
    return JSONResponse({
        "name": request.path_params["name"],
        "method": request.method,
        "query": request.query_params.get("q"),
        "form": form.get("field"),
        "cookie": request.cookies.get("a"),
        "url": str(request.url_for("page", name="x")),
    })

app = Starlette(routes=[Route("/pages/{name}", page, methods=["GET", "POST"])])
"""
FASTAPI = """\
from typing import Annotated
from fastapi import Cookie, FastAPI, Form, Request

app = FastAPI()

@app.get("/pages/{name}")
@app.post("/pages/{name}")
def page(
    name: str,
    request: Request,
    q: str | None = None,
    field: Annotated[str | None, Form()] = None,
    a: Annotated[str | None, Cookie()] = None,
):
    return {
        "name": name,
        "method": request.method,
        "query": q,
        "form": field,
        "cookie": a,
        "url": str(request.url_for("page", name="x")),
    }
"""
# An application of ASGI 2, in front of the same one.
DOUBLE = (
    STARLETTE
    + """
class Double:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        await app(self.scope, receive, send)
"""
)

PROJECTS: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "django-wsgi": (DJANGO, ("shop.wsgi:application", "--threads", "4"), "WSGI, 4 threads"),
    "django-asgi": (DJANGO, ("shop.asgi:application",), "ASGI"),
    "flask": ({"shop.py": FLASK}, ("shop:create_app", "--factory", "--threads", "1"), "WSGI, 1 thread"),
    "starlette": ({"shop.py": STARLETTE}, ("shop:app",), "ASGI"),
    "fastapi": ({"shop.py": FASTAPI}, ("shop:app", "--loop", "asyncio"), "ASGI"),
    "asgi2": ({"shop.py": DOUBLE}, ("shop:Double",), "ASGI"),
}


@pytest.mark.parametrize("project", PROJECTS)
def test_round_trips(tmp_path: Path, project: str) -> None:
    files, arguments, described = PROJECTS[project]
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    app, *options = arguments
    with App.serve(app, f"unix:{tmp_path}/app.sock", tmp_path / "log", *options, cwd=tmp_path) as child:
        assert f"serving {app} ({described}) on unix:{tmp_path}/app.sock (mode 0660, owner " in child.log_since()
        with WebServer(child.address) as web:
            check_site(web)
        assert child.stop() == 0
        assert child.log_since().endswith("simple_fastcgi: stopped\n")
        assert "Traceback" not in child.log_since()


def check_site(web: WebServer) -> None:
    for mount in ("", "/app"):
        params = params_for(
            f"{mount}/pages/caf%C3%A9%20x?q=%C3%A9",
            SCRIPT_NAME=mount,
            PATH_INFO="/pages/cafÃ© x",
            HTTP_COOKIE="a=b",
            CONTENT_TYPE="",
            CONTENT_LENGTH="",
        )
        expected = {
            "name": "café x",
            "method": "GET",
            "query": "é",
            "form": None,
            "cookie": "b",
            "url": f"http://example.org{mount}/pages/x",
        }
        got = web.request(params)
        assert (got.status, got.stderr, got.protocol_status) == (200, b"", 0)
        assert json.loads(got.body) == expected
        if not mount:
            # nginx's stock fastcgi_params: the whole path as SCRIPT_NAME.
            stock = {name: value for name, value in params.items() if name != "PATH_INFO"}
            assert json.loads(web.request({**stock, "SCRIPT_NAME": "/pages/cafÃ© x"}).body) == expected
        form = b"field=gr%C3%BCn"
        posted = {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(len(form)),
        }
        got = web.request({**params, **posted}, form)
        assert json.loads(got.body) == {**expected, "method": "POST", "form": "grün"}
        got = web.request({**params, "PATH_INFO": "/nowhere", "REQUEST_URI": f"{mount}/nowhere"})
        assert got.status == 404


STREAMS = """\
from asyncio import sleep
from pathlib import Path
from time import sleep as block
from urllib.parse import parse_qs

def lines(ended):
    try:
        while True:
            yield b"line\\n"
            block(0.001)
    finally:
        ended.touch()

async def async_lines():
    while True:
        yield b"line\\n"
        await sleep(0.001)

def noting(app):
    # Frameworks may leave a generator to the garbage collector.
    async def noted(scope, receive, send):
        try:
            await app(scope, receive, send)
        finally:
            for ended in parse_qs(scope.get("query_string", b"").decode()).get("ended", ()):
                Path(ended).touch()

    return noted
"""
DJANGO_STREAMS = """
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import StreamingHttpResponse
from django.urls import path

settings.configure(SECRET_KEY="not a secret", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)

def stream(request):
    return StreamingHttpResponse(lines(Path(request.GET["ended"])))

async def async_stream(request):
    return StreamingHttpResponse(async_lines())

urlpatterns = [path("stream", stream), path("async", async_stream)]
django_wsgi = get_wsgi_application()
django_asgi = noting(get_asgi_application())
"""
STARLETTE_STREAMS = """
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)

async def stream(request):
    return StreamingResponse(lines(Path(request.query_params["ended"])))

async def async_stream(request):
    return StreamingResponse(async_lines())

starlette = Starlette(routes=[Route("/stream", stream)])
wrapped = noting(Starlette(routes=[Route("/async", async_stream)], middleware=[Middleware(Passing)]))
api = FastAPI()
api.add_api_route("/async", lambda: StreamingResponse(async_lines()), methods=["HEAD"])
fastapi = noting(api)
"""


@pytest.mark.parametrize(
    ("app", "path"),
    (
        ("django_wsgi", "/stream"),
        ("django_asgi", "/async"),
        ("starlette", "/stream"),
        ("wrapped", "/async"),
        ("fastapi", "/async"),
    ),
)
def test_head_of_streams_without_an_end(tmp_path: Path, app: str, path: str) -> None:
    """They end soon, and nobody takes that for an error."""
    (tmp_path / "shop.py").write_text(STREAMS + (DJANGO_STREAMS if app.startswith("django") else STARLETTE_STREAMS))
    ended = tmp_path / "ended"
    with App.serve(f"shop:{app}", f"unix:{tmp_path}/app.sock", tmp_path / "log", cwd=tmp_path) as child:
        with WebServer(child.address) as web:
            got = web.request(params_for(f"{path}?ended={ended}", REQUEST_METHOD="HEAD"))
            assert (got.status, got.body, got.stderr, got.ended) == (200, b"", b"", True)
            wait_until(ended.exists)
        assert child.stop() == 0
        assert "Traceback" not in child.log_since()
        assert "ERROR" not in child.log_since()


# What Flask's documentation gives for logging, "Basic Configuration", in a script of one's own.
FLASK_LOG = """\
import sys
from logging.config import dictConfig

dictConfig({
    "version": 1,
    "formatters": {"default": {"format": "%(levelname)s in %(module)s: %(message)s"}},
    "handlers": {"wsgi": {
        "class": "logging.StreamHandler",
        "stream": "ext://flask.logging.wsgi_errors_stream",
        "formatter": "default",
    }},
    "root": {"level": "INFO", "handlers": ["wsgi"]},
})

from flask import Flask

app = Flask(__name__)

@app.get("/")
def page():
    app.logger.warning("hello")
    return "ok"

if __name__ == "__main__":
    from simple_fastcgi import serve
    serve(app, sys.argv[1])
"""


def test_logging_as_flask_documents_it(tmp_path: Path) -> None:
    """Behind Caddy, which keeps nothing of FCGI_STDERR, each line is told on standard error, once."""
    script = tmp_path / "shop.py"
    script.write_text(FLASK_LOG)
    path = f"{tmp_path}/app.sock"
    with App([sys.executable, str(script), f"unix:{path}"], tmp_path / "log", cwd=tmp_path) as child:
        child.wait_for("serving .*\n")
        mark = child.mark()
        with WebServer(path) as web:
            for software, told in (("nginx/1.22.1", 0), ("Caddy/2.6.2", 1)):
                got = web.request(params_for("/", SERVER_SOFTWARE=software))
                assert (got.status, got.body, got.stderr) == (200, b"ok", b"WARNING in shop: hello\n")
                assert child.log_since(mark).count("WARNING in shop: hello") == told
        assert child.log_since(mark).count("\n") == 1
