"""One real round trip for each framework that people run, through `simple-fastcgi serve`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.support.webserver import Response, WebServer, params_for
from tests.webservers.children import App

if TYPE_CHECKING:
    from pathlib import Path

DJANGO = """\
import os, sys
import django
from django.conf import settings
from django.http import JsonResponse
from django.urls import path, reverse

settings.configure(
    ALLOWED_HOSTS=["example.org"], ROOT_URLCONF=__name__, SECRET_KEY="for this test", LOGGING_CONFIG=None,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)
django.setup()

def echo(request, name):
    return JsonResponse({
        "name": name, "body": request.body.decode(), "query": request.GET.get("q"), "method": request.method,
        "url": request.build_absolute_uri(reverse("echo", args=[name])),
    })

urlpatterns = [path("echo/<str:name>", echo, name="echo")]
"""
MODULES = {
    "django_wsgi.py": DJANGO + "from django.core.wsgi import get_wsgi_application\napp = get_wsgi_application()\n",
    "django_asgi.py": DJANGO + "from django.core.asgi import get_asgi_application\napp = get_asgi_application()\n",
    "flask_app.py": """\
from flask import Flask, jsonify, request, url_for

app = Flask(__name__)

@app.post("/echo/<name>")
def echo(name):
    return jsonify(name=name, body=request.get_data(as_text=True), query=request.args.get("q"), method=request.method,
                   url=url_for("echo", name=name, _external=True))
""",
    "starlette_app.py": """\
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def echo(request):
    name = request.path_params["name"]
    return JSONResponse({
        "name": name, "body": (await request.body()).decode(), "query": request.query_params.get("q"),
        "method": request.method, "url": str(request.url_for("echo", name=name)),
    })

app = Starlette(routes=[Route("/echo/{name}", echo, methods=["POST"])])
""",
    "fastapi_app.py": """\
from fastapi import FastAPI, Request

app = FastAPI()

@app.post("/echo/{name}")
async def echo(name: str, request: Request, q: str | None = None):
    return {"name": name, "body": (await request.body()).decode(), "query": q, "method": request.method,
            "url": str(request.url_for("echo", name=name))}
""",
    "older_app.py": """\
import json

class app:
    def __init__(self, scope):
        self.scope = scope

    async def __call__(self, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        name = self.scope["path"].rpartition("/")[2]
        echo = {"name": name, "body": body.decode(), "query": self.scope["query_string"].decode()[2:],
                "method": self.scope["method"], "url": "http://example.org" + self.scope["raw_path"].decode()}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(echo).encode()})
""",
}


def post(web_server: WebServer, root: str, stock: bool) -> Response:
    """A request as nginx sends it: by its stock parameters, or split at the mount point."""
    body = "Grüße".encode()
    params = params_for(
        f"{root}/echo/b%C3%BCcher?q=1",
        REQUEST_METHOD="POST",
        CONTENT_LENGTH=str(len(body)),
        CONTENT_TYPE="text/plain",
    )
    path = "/echo/bücher".encode().decode("latin-1")
    if stock:
        params["SCRIPT_NAME"] = root + path
        del params["PATH_INFO"]
    else:
        params |= {"SCRIPT_NAME": root, "PATH_INFO": path}
    return web_server.request(params, body)


@pytest.mark.parametrize("root", ["", "/app"], ids=["at the root", "below app"])
@pytest.mark.parametrize("module", list(MODULES))
def test_round_trip(tmp_path: Path, module: str, root: str) -> None:
    (tmp_path / module).write_text(MODULES[module])
    name = module.removesuffix(".py")
    with (
        App.serve(f"{name}:app", f"unix:{tmp_path}/app.sock", tmp_path / "log", cwd=tmp_path) as app,
        WebServer(app.address) as web_server,
    ):
        for stock in (False, True) if not root else (False,):
            response = post(web_server, root, stock)
            assert response.status == 200, (response, app.log_since())
            echo = json.loads(response.body)
            # Starlette's URL objects show themselves decoded.
            echo["url"] = unquote(echo["url"])
            assert echo == {
                "name": "bücher",
                "body": "Grüße",
                "query": "1",
                "method": "POST",
                "url": f"http://example.org{root}/echo/bücher",
            }
        assert "Traceback" not in app.log_since()
