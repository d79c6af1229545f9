"""A native program that ends gracefully when it is told to, as its author wants it."""

from __future__ import annotations

import signal
import sys
import time

from simple_fastcgi import FcgiHandler, FcgiThreadingServer, HttpResponseMixin


class Slow(HttpResponseMixin, FcgiHandler):
    def handle(self) -> None:
        print("began", file=sys.stderr, flush=True)
        time.sleep(1)
        self.send_response(200, data="done")


if __name__ == "__main__":
    with FcgiThreadingServer(Slow) as server:
        signal.signal(signal.SIGTERM, lambda *_: server.shutdown())
        server.serve_forever()
