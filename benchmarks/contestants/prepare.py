"""Getting the contestants: virtual environments, Debian packages, builds. What cannot be had has a reason."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.prepare import SYSTEM_PATH, apt_install, create_venv, other_pythons, say

from .model import HERE, ROOT, Environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .model import Contestant

STORE = Path(os.environ.get("BENCH_STORE", ROOT / ".bench")).absolute()
"""Where everything is put; BENCH_STORE lets several checkouts share it."""
FRAMEWORKS = ("flask", "starlette")
LOAD = Environment("load", packages=(("nginx", "nginx-light"), ("wrk", "wrk")))
_STAMP = "prepared.json"
_SECONDS_TO_BUILD = 600


class Missing(Exception):
    """A contestant that cannot be had here; the message says why."""


def pythons() -> dict[str, str]:
    """Version -> interpreter of all supported Pythons installed, the one that runs this first."""
    return {"{}.{}".format(*sys.version_info[:2]): sys.executable, **other_pythons()}


def prepare_all(contestants: Iterable[Contestant]) -> None:
    """Get all of them; one that cannot be had is named, and is no failure."""
    interpreters = pythons()
    for environment, version in dict.fromkeys((one.environment, one.python) for one in contestants):
        try:
            prepare(environment, version, interpreters.get(version, ""))
        except Missing as reason:
            say(f"{environment.name} {version}: {reason}")


def prepare(environment: Environment, version: str, interpreter: str) -> None:
    """Get one environment for one interpreter, unless that was done before; Missing when it cannot be."""
    folder = folder_of(environment, version)
    stamp = folder / _STAMP
    wanted = _fingerprint(environment)
    if stamp.exists() and json.loads(stamp.read_text()).get("fingerprint") == wanted:
        _expect_programs(environment)
        return
    say(f"getting {environment.name} {version}".rstrip())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _install_packages(environment)
    if environment.python:
        _install_requirements(environment, folder, interpreter)
    for command in environment.build:
        _run([part.format(folder=folder, here=HERE) for part in command])
    stamp.write_text(json.dumps({"fingerprint": wanted, "versions": _versions(environment, folder)}))


def folder_of(environment: Environment, version: str) -> Path:
    """Where an environment is."""
    return STORE / (version or "any") / environment.name


def versions_of(contestant: Contestant) -> dict[str, str]:
    """What it consists of, by name; Missing when it has not been prepared."""
    if contestant.environment == Environment(contestant.environment.name):
        return {"python": platform.python_version()}
    stamp = folder_of(contestant.environment, contestant.python) / _STAMP
    if not stamp.exists():
        raise Missing("not prepared")
    _expect_programs(contestant.environment)
    versions: dict[str, str] = json.loads(stamp.read_text())["versions"]
    return {"simple_fastcgi": _checkout(contestant.source), **versions} if contestant.ours else versions


def _checkout(folder: Path) -> str:
    """The version of a checkout of this project, and its commit."""
    found = re.search(r'^__version__ = "(.*)"', (folder / "simple_fastcgi" / "__init__.py").read_text(), re.MULTILINE)
    commit = _output(["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]).strip()
    return " ".join(part for part in (found[1] if found else "", commit and f"({commit})") if part)


def _install_packages(environment: Environment) -> None:
    packages = [package for program, package in environment.packages if not has(program)]
    if packages and (problem := apt_install(packages)):
        raise Missing(f"{', '.join(packages)}: {problem}")
    _expect_programs(environment)


def _expect_programs(environment: Environment) -> None:
    if missing := [package for program, package in environment.packages if not has(program)]:
        raise Missing(f"Debian package {', '.join(missing)} is not installed")


def has(program: str) -> bool:
    """Whether a program, or a file given by its path, is there. Debian puts a version behind the name of php-fpm."""
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program, path=SYSTEM_PATH) is not None or any(Path("/usr/sbin").glob(f"{program}[0-9]*"))


def _install_requirements(environment: Environment, folder: Path, interpreter: str) -> None:
    try:
        create_venv(folder, interpreter)
    except SystemExit as problem:
        raise Missing(str(problem)) from None
    wanted = [*environment.requirements, *(FRAMEWORKS if environment.frameworks else ())]
    _run([str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-qq", *wanted])


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_TO_BUILD, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise Missing(str(problem)) from None
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise Missing(f"{Path(command[0]).name} failed: {words[-1].strip()}")


def _versions(environment: Environment, folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    if environment.python:
        python = str(folder / "bin" / "python")
        listing = _output([python, "-m", "pip", "--disable-pip-version-check", "list", "--format", "json"])
        found = {row["name"].lower(): row["version"] for row in json.loads(listing or "[]")}
        found = {name: version for name, version in found.items() if name not in {"pip", "setuptools"}}
        found["python"] = _output([python, "-c", "import platform; print(platform.python_version())"]).strip()
    for _, package in environment.packages:
        found[package] = _output(["dpkg-query", "-W", "-f", "${Version}", package])
    return {name: version for name, version in found.items() if version}


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _fingerprint(environment: Environment) -> str:
    sources = [path.read_bytes() for path in sorted((HERE / "reference").iterdir())] if environment.build else []
    recipe = repr((environment, FRAMEWORKS, str(STORE))).encode()
    return hashlib.sha256(b"".join((recipe, *sources))).hexdigest()
