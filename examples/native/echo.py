"""Answers every request with its own parameters, as JSON.

Run it behind a web server that connects to the socket (nginx.conf, README.md):

    spawn-fcgi -n -s run/app.sock -M 600 -- /usr/bin/env python3 echo.py
"""

from simple_fastcgi import *


class Echo(HttpResponseMixin, FcgiHandler):
    def handle(self):
        self.send_response(200, "application/json", self.environ)


if __name__ == "__main__":
    with FcgiServer(Echo) as server:
        server.serve_forever()
