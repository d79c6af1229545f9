"""Lists the folder that the URL names, below a document root: one JSON object a line, sent while the folder is read.

    spawn-fcgi -n -s run/app.sock -M 600 -- /usr/bin/env FCGI_LISTING_ROOT=/srv/files python3 directory_listing.py

Without FCGI_LISTING_ROOT the root is the DOCUMENT_ROOT that the web server tells. Nothing outside of it is shown,
whatever the URL says and wherever links point to. Who can change the tree while it is read is trusted.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
import threading
from itertools import islice
from typing import TYPE_CHECKING

from simple_fastcgi import AsyncFcgiHandler, AsyncFcgiServer, AsyncHttpResponseMixin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BATCH_SIZE = 500
NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class Refused(Exception):
    """A request that is answered with an error: its status, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Folder:
    """An open folder, whose entries worker threads read in batches. The lock keeps it open while one is at it."""

    def __init__(self, path: str) -> None:
        self._entries = os.scandir(path)
        self._lock = threading.Lock()

    def read(self) -> str:
        """Give the lines of the next entries; none at the end."""
        with self._lock:
            return "".join(line(entry) for entry in islice(self._entries, BATCH_SIZE))

    def close(self) -> None:
        """Let the folder go, also when it was not read to its end."""
        with self._lock:
            self._entries.close()


def line(entry: os.DirEntry[str]) -> str:
    """Write an entry as JSON. A name that is not UTF-8 keeps its bytes, each as an escape (DC80 to DCFF)."""
    facts: dict[str, str | int] = {"name": entry.name}
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:  # it went away meanwhile, or is not ours to look at
        facts["type"] = "unknown"
    else:
        facts["type"] = KINDS.get(stat.S_IFMT(status.st_mode), "other")
        facts["size"] = status.st_size
        facts["modified"] = int(status.st_mtime)
    return json.dumps(facts) + "\n"


def requested_path(environ: dict[str, str]) -> str:
    """Give the path that was asked for. The web server has decoded it; once more, and "%252e" would become ".".

    With nothing but nginx's stock parameters, SCRIPT_NAME holds all of it and PATH_INFO is absent.
    """
    return environ.get("PATH_INFO", environ.get("SCRIPT_NAME", ""))


def locate(environ: dict[str, str]) -> str:
    """Give the real path of the folder that was asked for; Refused where it is not below the root."""
    root = os.environ.get("FCGI_LISTING_ROOT") or environ.get("DOCUMENT_ROOT")
    if not root:
        raise Refused(500, "no document root is set")
    try:
        root = os.path.realpath(root)
        # Links and ".." are resolved first: only where the path really leads is compared with the root.
        folder = os.path.realpath(os.path.join(root, requested_path(environ).lstrip("/")))
    except ValueError:  # a NUL
        raise Refused(404, "no such folder") from None
    if os.path.commonpath([root, folder]) != root:
        raise Refused(403, "outside of the document root")
    return folder


def open_folder(environ: dict[str, str]) -> Folder:
    """Open the folder that was asked for; Refused where that cannot be."""
    try:
        return Folder(locate(environ))
    except PermissionError:
        raise Refused(403, "the folder cannot be read") from None
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        raise Refused(404, "no such folder") from None


class DirectoryListing(AsyncHttpResponseMixin, AsyncFcgiHandler):
    """Answers with the entries of a folder."""

    async def handle(self) -> None:
        """Send the listing, or an error as JSON."""
        method = self.environ.get("REQUEST_METHOD", "GET")
        if method not in {"GET", "HEAD"}:
            await self.refuse(Refused(405, "only GET and HEAD"), extra_headers=[("Allow", "GET, HEAD")])
            return
        try:
            folder = await asyncio.to_thread(open_folder, self.environ)
        except Refused as refused:
            await self.refuse(refused)
            return
        try:
            await self.send_listing(folder, method)
        finally:
            await asyncio.to_thread(folder.close)

    async def send_listing(self, folder: Folder, method: str) -> None:
        """Send the entries as they are read: the thread reads the disk, and the loop is free for other requests."""

        async def lines() -> AsyncIterator[str]:
            while not self.aborted() and (batch := await asyncio.to_thread(folder.read)):
                yield batch

        await self.send_response(200, "application/x-ndjson", data=lines if method == "GET" else None)

    async def refuse(self, refused: Refused, extra_headers: list[tuple[str, str]] | None = None) -> None:
        """Send an error."""
        body = {"status": refused.code, "error": refused.reason}
        await self.send_response(refused.code, "application/json", body, extra_headers=extra_headers or [])


async def main() -> None:
    """Serve the socket on file descriptor 0 until the process is told to stop."""
    async with AsyncFcgiServer(DirectoryListing) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
