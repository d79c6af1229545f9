"""Handlers on the synchronous API: python native_sync.py NAME, the listening socket on descriptor 0.

simple_fastcgi 0.0.8 runs this same file.
"""

from __future__ import annotations

import sys

from simple_fastcgi import FcgiHandler, FcgiServer, HttpResponseMixin

HELLO = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nHello, World!"


class Hello(FcgiHandler):
    def handle(self) -> None:
        self.write(HELLO)


class Varied(HttpResponseMixin, FcgiHandler):
    def handle(self) -> None:
        environ = self.environ
        text = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']} {environ.get('HTTP_X_REQUEST_ID', '')}"
        self.send_response(200, "text/plain", text)


if __name__ == "__main__":
    handler: type[FcgiHandler] = {"hello": Hello, "varied": Varied}[sys.argv[1]]
    with FcgiServer(handler) as server:
        server.serve_forever()
