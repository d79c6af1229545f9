"""A guest book for shared hosting: plain Flask, and a SQLite database beside this file.

It knows nothing of FastCGI: `flask run` in this folder shows it without any web server. Behind Apache it runs in
several processes, so what it has to remember stands in the database.
"""

from __future__ import annotations

import hmac
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, Response, abort, redirect, render_template, request, url_for

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

HERE = Path(__file__).resolve().parent
DATABASE = HERE / "guestbook.sqlite3"
# Who knows what stands in this file may delete entries; nobody may while there is none.
PASSWORD = HERE / "password.txt"
LONGEST = 1000

# Apache serves these files itself; `flask run` needs to be told.
app = Flask(__name__, static_folder=HERE.parent / "public_html" / "static")
app.config["MAX_CONTENT_LENGTH"] = 100_000  # bytes


def is_owner() -> bool:
    """Tell whether the browser has sent the owner's password."""
    if not PASSWORD.exists() or request.authorization is None:
        return False
    given, expected = request.authorization.password or "", PASSWORD.read_text(encoding="utf-8").strip()
    return expected != "" and hmac.compare_digest(given.encode(), expected.encode())


def database() -> sqlite3.Connection:
    """Open the database; it is made by the first who needs it."""
    connection = sqlite3.connect(DATABASE, timeout=10)
    connection.execute("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, name TEXT, message TEXT)")
    return connection


@app.get("/")
def index() -> str:
    """Show the last entries, and the form for another one."""
    with closing(database()) as connection:
        entries = connection.execute("SELECT id, name, message FROM entries ORDER BY id DESC LIMIT 50").fetchall()
    return render_template("index.html", entries=entries)


@app.post("/sign")
def sign() -> ResponseReturnValue:
    """Add an entry, then redirect, so that reloading the page does not add it again."""
    name, message = request.form.get("name", "").strip(), request.form.get("message", "").strip()
    if not name or not message or len(name + message) > LONGEST:
        abort(400, f"A name and a message, please, of at most {LONGEST} characters.")
    with closing(database()) as connection, connection:
        entry = connection.execute("INSERT INTO entries (name, message) VALUES (?, ?)", (name, message)).lastrowid
    return redirect(url_for("index", _anchor=f"entry-{entry}"), 303)


@app.route("/delete/<int:entry>", methods=["GET", "POST"])
def delete(entry: int) -> ResponseReturnValue:
    """Delete an entry, if the browser proves that it is the owner's."""
    if not is_owner():
        return Response("The owner's password, please.\n", 401, {"WWW-Authenticate": 'Basic realm="guest book"'})
    with closing(database()) as connection:
        found = connection.execute("SELECT id, name, message FROM entries WHERE id = ?", (entry,)).fetchone()
        if found is None:
            abort(404)
        if request.method == "POST":
            with connection:
                connection.execute("DELETE FROM entries WHERE id = ?", (entry,))
            return redirect(url_for("index"), 303)
    return render_template("delete.html", entry=found)
