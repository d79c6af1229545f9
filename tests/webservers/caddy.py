"""Caddy: ``transport fastcgi``, at the root and below a path that is split off or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .fronts import Front, Server, free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from .children import App

GLOBAL = """\
{
    admin off
    auto_https off
    storage file_system %s
}
"""


class Caddy(Server):
    """Caddy with a site for each of its fronts."""

    def __init__(self, program: str, sites: Mapping[Front, tuple[str, str]], folder: Path) -> None:
        self._sites = sites
        path = folder / "Caddyfile"
        path.write_text(GLOBAL % folder + "".join(text for _, text in sites.values()))
        super().__init__(
            [program, "run", "--config", str(path), "--adapter", "caddyfile"],
            folder / "caddy.log",
            cwd=folder,
            env={"XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder), "HOME": str(folder)},
        )
        self.wait_for("serving initial configuration")

    @classmethod
    def start(
        cls,
        program: Callable[[str], str],
        fronts: Sequence[Front],
        app: App | None,
        command: Sequence[str],
        folder: Path,
    ) -> Self:
        assert app is not None
        sites: dict[Front, tuple[str, str]] = {}
        for front in fronts:
            assert isinstance(front, CaddyFront)
            host, port = free_address()
            sites[front] = (f"http://{host}:{port}", front.site.replace("SITE", f"http://{host}:{port}"))
        upstream = f"unix/{app.address}" if isinstance(app.address, str) else "{}:{}".format(*app.address)
        written = {front: (origin, text.replace("APP", upstream)) for front, (origin, text) in sites.items()}
        return cls(program("caddy"), written, folder)

    def origin(self, front: Front) -> str:
        return self._sites[front][0]


@dataclass(frozen=True, eq=False, kw_only=True)
class CaddyFront(Front):
    """What stands in the Caddyfile for SITE, in front of APP."""

    site: str
    server_name: str = ""
    joins_fields: bool = True
    server = Caddy


FRONTS = (
    CaddyFront(name="caddy", site="SITE {\n    reverse_proxy APP {\n        transport fastcgi\n    }\n}\n"),
    CaddyFront(
        name="caddy-handle-path",
        site="SITE {\n    handle_path /app/* {\n        reverse_proxy APP {\n"
        "            transport fastcgi\n        }\n    }\n}\n",
        mount="/app",
        full=False,
    ),
)
