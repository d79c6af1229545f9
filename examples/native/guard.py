"""Lets those in who are in a file, before the web server serves what they ask for: an Authorizer.

The file has a line for each, "NAME RIGHTS HASH": rights are "r" (GET and HEAD) or "rw", the hash is the SHA-256 of the
password. Passwords are long and random; this makes one, and its line:

    python3 guard.py ali rw >> users.txt

The web server asks over TCP (apache.conf, README.md):

    FCGI_GUARD_USERS=users.txt spawn-fcgi -n -a 127.0.0.1 -p 9001 -- /usr/bin/env python3 guard.py

What is served finds GUARD_USER and GUARD_RIGHTS among its variables.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import sys

from simple_fastcgi import AuthorizerMixin, FcgiHandler, FcgiThreadingServer

USERS = os.environ.get("FCGI_GUARD_USERS", "users.txt")
CHALLENGE = ("WWW-Authenticate", 'Basic realm="guarded", charset="UTF-8"')


class Guard(AuthorizerMixin, FcgiHandler):
    """Says yes or no before anything is served."""

    def handle(self) -> None:
        """Look the visitor up."""
        name, password = credentials(self.environ.get("HTTP_AUTHORIZATION", ""))
        rights = rights_of(name, password)
        if not rights:
            self.deny(401, data="Who are you?\n", extra_headers=[CHALLENGE])
        elif rights != "rw" and self.environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            self.deny(403, data="You may only look.\n")
        else:
            self.allow({"GUARD_USER": name, "GUARD_RIGHTS": rights})


def credentials(field: str) -> tuple[str, str]:
    """Name and password out of an Authorization field; empty if there are none."""
    scheme, _, encoded = field.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


def rights_of(name: str, password: str) -> str:
    """What somebody may do; empty if the file has nobody of that name and password."""
    found = hash_of(password)
    with open(USERS, encoding="utf-8") as users:  # each time anew: a change counts at once
        for line in users:
            words = line.split()
            if len(words) == 3 and words[0] == name and hmac.compare_digest(words[2], found):
                return words[1]
    return ""


def hash_of(password: str) -> str:
    """What the file has instead of the password."""
    return hashlib.sha256(password.encode()).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        password = secrets.token_urlsafe()
        print("the password:", password, file=sys.stderr)
        print(sys.argv[1], sys.argv[2], hash_of(password))
    else:
        with FcgiThreadingServer(Guard) as server:
            server.serve_forever()
