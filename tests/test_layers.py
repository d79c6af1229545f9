"""Who may import whom (docs/design.md), read from the imports of the whole package.

Imports inside functions and under TYPE_CHECKING count too: a layer that only mentions a higher one already knows it.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import simple_fastcgi

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.once

PACKAGE = "simple_fastcgi"
FOLDER = Path(simple_fastcgi.__file__).parent

CORE = {"errors", "limits", "protocol", "cgi"}
SHELL = CORE | {"log", "net", "monitor"}
SERVING = SHELL | {"sync", "aio", "gateways"}
# What the modules of a layer may import, besides those of their own layer.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "log": {"json_log"},
    "json_log": {"log"},
    "limits": {"errors"},
    "protocol": {"errors", "limits"},
    "cgi": {"errors", "limits", "protocol"},
    "net": CORE | {"log"},
    "monitor": CORE | {"log"},
    "sync": SHELL,
    "aio": SHELL,
    "gateways": CORE | {"log", "sync.handler", "sync.request", "aio.handler", "aio.request"},
    "client": CORE | {"log", "net.address"},
    "serving": SERVING,
    "flup": {"errors", "log", "protocol", "net", "serving"},
    "testing": SERVING | {"serving", "client"},
    "workers": SERVING | {"serving"},
    "check": {"aio.request", "aio.connection", ""},
    "dev": SERVING | {"serving", "client"},
    "cli": SERVING | {"serving", "client", "workers", "dev", "check", ""},  # "": the package itself, for its version
}
# Modules of a class that is built in steps, the lowest first: each may know only those before it.
STEPS = {
    "protocol": ["responses", "requests", "whole", "application"],
    "sync": ["link", "reading", "writing", "connection"],
}
PURE = {"protocol", "cgi"}
IO = {"asyncio", "os", "select", "selectors", "signal", "socket", "socketserver", "ssl"}
IO |= {"subprocess", "threading", "time"}
# Where packages of others may be imported: at once, or only inside functions (the bare install has none of them).
THIRD_PARTY = {
    "client": "at once",
    "dev": "at once",
    "testing": "at once",
    "workers": "at once",
    "serving": "late",
    "cli": "late",
    "gateways": "late",
    "monitor": "late",
    "monitor.metrics": "at once",
}


class Import(NamedTuple):
    target: str  # a module of the package without its prefix, or the top name of another one
    inside: bool  # of the package
    late: bool  # in a function, or under TYPE_CHECKING


def layer(module: str) -> str:
    return module.partition(".")[0]


@cache
def modules() -> dict[str, list[Import]]:
    """Each module (without the package's name; "" is its __init__) and what it imports."""
    paths = {path.relative_to(FOLDER).with_suffix(""): path for path in FOLDER.rglob("*.py")}
    known = {".".join(part for part in name.parts if part != "__init__"): path for name, path in paths.items()}
    return {name: list(imports(path, name, known)) for name, path in known.items()}


def imports(path: Path, name: str, known: dict[str, Path]) -> Iterator[Import]:
    home = f"{PACKAGE}.{name}".rstrip(".") if path.stem == "__init__" else f"{PACKAGE}.{name}".rpartition(".")[0]
    for node, late in walk(ast.parse(path.read_text(encoding="utf-8")), late=False):
        targets = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), home) if node.level else node.module or ""
            # `from . import records` names a module, `from .records import Header` does not.
            submodules = {target: f"{origin}.{target}".removeprefix(f"{PACKAGE}.") in known for target in targets}
            targets = [f"{origin}.{target}" if submodules[target] else origin for target in targets]
        for target in dict.fromkeys(targets):
            inside = target.partition(".")[0] == PACKAGE
            yield Import(target[len(PACKAGE) + 1 :] if inside else target.partition(".")[0], inside, late)


def walk(node: ast.AST, *, late: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            yield from walk(child, late=late or later)


def layered() -> dict[str, list[Import]]:
    """Without the package's own __init__ and __main__, which stand above all layers."""
    return {name: found for name, found in modules().items() if name not in {"", "__main__"}}


def test_imports_point_downwards() -> None:
    wrong = [
        f"{name} imports {target or PACKAGE}"
        for name, found in layered().items()
        for target, inside, _ in found
        if inside and layer(target) != layer(name)
        if not {target, layer(target)} & ALLOWED[layer(name)]
    ]
    assert not wrong


@pytest.mark.parametrize("home", STEPS)
def test_a_step_knows_only_those_below(home: str) -> None:
    steps = [f"{home}.{step}" for step in STEPS[home]]
    wrong = [
        f"{step} imports {target}"
        for height, step in enumerate(steps)
        for target, _, _ in modules()[step]
        if target in steps[height:]
    ]
    assert not wrong


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {name: {i.target for i in found if i.inside and not i.late} for name, found in modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_pure_layers_do_no_input_or_output() -> None:
    wrong = [
        f"{name} imports {i.target}"
        for name, found in layered().items()
        if layer(name) in PURE
        for i in found
        if not i.inside and i.target in IO
    ]
    assert not wrong


def test_gateways_know_no_sockets() -> None:
    found = {i.target for name, found in layered().items() if layer(name) == "gateways" for i in found}
    assert not found & {"socket", "selectors", "select", "ssl"}


def test_other_packages_are_imported_where_they_may_be_missing() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, found in layered().items()
        for target, inside, late in found
        if not inside and target not in sys.stdlib_module_names
        if "at once" not in (THIRD_PARTY.get(layer(name)), THIRD_PARTY.get(name))
        and not (late and layer(name) in THIRD_PARTY)
    ]
    assert not wrong
