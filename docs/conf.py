"""Sphinx configuration. The build works offline: no intersphinx, no remote theme parts."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sphinx.util.docutils import SphinxDirective

import simple_fastcgi
from simple_fastcgi.aio import connections as aio_connections
from simple_fastcgi.limits import Limits
from simple_fastcgi.sync import connections as sync_connections

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

project = "simple_fastcgi"
author = "the simple_fastcgi authors"
project_copyright = f"2026, {author}"
version = release = simple_fastcgi.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"simple_fastcgi {version}"
html_show_sphinx = False
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": True}
python_use_unqualified_type_names = True

# Every reference must lead somewhere. Only those into the standard library and httpx have no target offline,
# and neither have names in signatures: bare ones are imported for type checkers alone, and the shells' requests and
# connections are no part of the API.
nitpicky = True
STANDARD_LIBRARY = "|".join(sorted(sys.stdlib_module_names))
nitpick_ignore_regex = [
    (r"py:.*", rf"({STANDARD_LIBRARY}|httpx)\..*"),
    (r"py:exc", r"[A-Z][A-Za-z]*(Error|Exception)|KeyboardInterrupt|SystemExit"),
    (r"py:class", r"\w+"),
    (r"py:.*", r"(.*\.)?_\w+"),  # private names, which inner docstrings mention
    (r"py:class", r"simple_fastcgi\.((sync|aio)\.(request|connection)|client\.attempts)\.\w+"),
]

# "``name`` (unit, default text)", and the indented sentences below it.
LIMIT = re.compile(r"^``(\w+)`` \((?:(\w+), )?default (.+)\)\n((?:    .*\n?)+)", re.MULTILINE)


class LimitsTable(SphinxDirective):
    """``limits-table``: the bounds of Limits with their defaults, from its docstring and its DEFAULTS."""

    def run(self) -> list[nodes.Node]:
        rows = LIMIT.findall(inspect.getdoc(Limits) or "")
        names = [name for name, *_ in rows]
        if sorted(names) != sorted(Limits.DEFAULTS):
            raise self.error(f"the docstring of Limits explains {names}, its DEFAULTS are {list(Limits.DEFAULTS)}")
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 30 15 55", ""]
        lines += ["   * - Setting", "     - Default", "     - What it bounds"]
        for name, unit, default, text in rows:
            if _number(default) != Limits.DEFAULTS[name]:
                raise self.error(f"the docstring of Limits says {name} is {default}, it is {Limits.DEFAULTS[name]}")
            lines += [f"   * - ``{name}``", f"     - {default} {unit if unit == 'seconds' else ''}".rstrip()]
            lines += [f"     - {' '.join(text.split())}"]
        return self.parse_text_to_nodes("\n".join(lines))


def _number(text: str) -> float:
    number, _, unit = text.partition(" ")
    return float(number.replace(",", "")) * {"": 1, "KiB": 1024, "MiB": 1024**2}[unit]


_UNNAMED = (sync_connections.ConnectionServer, aio_connections.ConnectionServer)


def _name_known_bases(_app: Sphinx, _name: str, _cls: type, _options: object, bases: list[type]) -> None:
    """For a class of this package that is no part of the API stand its own bases."""
    bases[:] = [known for base in bases for known in (base.__bases__ if base in _UNNAMED else (base,))]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-bases", _name_known_bases)
    app.add_directive("limits-table", LimitsTable)
