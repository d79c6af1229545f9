"""A native program that redirects to what the query names, but for one page."""

from __future__ import annotations

from urllib.parse import unquote

from simple_fastcgi import FcgiHandler, FcgiServer, HttpResponseMixin


class Redirects(HttpResponseMixin, FcgiHandler):
    def handle(self) -> None:
        target = unquote(self.environ.get("QUERY_STRING", ""))
        if target:
            self.send_redirect(target)
        else:
            self.send_response(200, data="the page")


if __name__ == "__main__":
    with FcgiServer(Redirects) as server:
        server.serve_forever()
