"""Set up what `make` needs: virtual environments, and the web servers that tests talk to.

It runs on the system's Python, before anything is installed: standard library only, and syntax
that an old Python can read, so that it can say that it is too old.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

MIN_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"
STAMP = ".installed"

# Each program that tests start, and the Debian packages that bring it.
PACKAGES = {
    "apache2": "apache2-bin libapache2-mod-fcgid",
    "caddy": "caddy",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "lighttpd": "lighttpd",
    "multiwatch": "multiwatch",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "php-fpm": "php-fpm",
    "spawn-fcgi": "spawn-fcgi",
    "systemd-analyze": "systemd",
}
# Where Debian keeps servers, which is not on an ordinary user's PATH.
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))

APT_ATTEMPTS = 3
APT_OPTIONS = ("-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3", "-o", "Dpkg::Use-Pty=0")


def say(message: str) -> None:
    """One line of progress."""
    print(f"==> {message}", flush=True)


def give_up(message: str) -> NoReturn:
    """One line of why not; exit status 1."""
    sys.exit(f"==> {message}")


# ---------------------------------------------------------------- virtual environments


def ensure_venv(folder: Path, groups: list[str], interpreter: str) -> Path:
    """Make `folder` an environment with the package (editable) and the groups; gives its Python.

    Nothing happens if that was done before and pyproject.toml has not changed since.
    """
    python = folder / "bin" / "python"
    stamp = folder / STAMP
    fingerprint = _fingerprint()
    usable = _runs(python)
    if usable and stamp.exists():
        before, *installed = stamp.read_text().split()
        if before == fingerprint and set(groups) <= set(installed):
            return python
        groups = sorted({*groups, *installed})
    if not usable:
        say(f"creating {folder.name} with {interpreter}")
        create_venv(folder, interpreter)
    stamp.unlink(missing_ok=True)
    say(f"installing simple_fastcgi and its groups ({', '.join(groups)}) into {folder.name}")
    # What is imported is compiled then: that is a small part of what is installed.
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--no-compile"]
    _run([*pip, "--upgrade", "pip>=25.1"])  # the first that knows --group
    _run([*pip, "--upgrade", "--editable", ".", *(part for group in groups for part in ("--group", group))])
    stamp.write_text(" ".join((fingerprint, *groups)))
    return python


def _fingerprint() -> str:
    # The folder counts: an editable install knows where it stands.
    return hashlib.sha256(PYPROJECT.read_bytes() + os.fsencode(ROOT)).hexdigest()


def create_venv(folder: Path, interpreter: str) -> None:
    """Make `folder` an empty environment of that interpreter; SystemExit when it cannot be."""
    create = [interpreter, "-m", "venv", "--clear", str(folder)]
    if subprocess.run([interpreter, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0:
        _run(create)
        return
    # Debian's Python without its python3-venv package lacks only the bundled pip. The system's own pip fills in.
    python = str(folder / "bin" / "python")
    pip = [interpreter, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "-qq", "pip"]
    for command in ([*create, "--without-pip"], pip):
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            give_up(f"{interpreter} cannot make a virtual environment; on Debian: apt-get install python3-venv")


def _runs(python: Path) -> bool:
    probe = [str(python), "-c", f"import sys, pip; sys.exit(sys.version_info < {MIN_PYTHON})"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


# ------------------------------------------------------------------------- web servers


def ensure_programs(names: list[str]) -> None:
    """Install what is missing with apt-get; where that cannot be, say which packages to install."""
    missing = _missing(names)
    if not missing:
        return
    packages = [package for name in missing for package in PACKAGES[name].split()]
    say(f"{', '.join(missing)}: not found, installing {', '.join(packages)}")
    problem = apt_install(packages)
    missing = _missing(names)
    if not missing:
        return
    cure = f"missing: {', '.join(missing)} ({problem}); please install: {' '.join(PACKAGES[name] for name in missing)}"
    if os.environ.get("CI"):
        give_up(cure)
    say(f"{cure}. The tests that need them are skipped.")


def _missing(names: list[str]) -> list[str]:
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    if shutil.which(name, path=SYSTEM_PATH) is not None:
        return True
    # Debian's has its version in its name.
    return name == "php-fpm" and any(
        any(Path(folder).glob("php-fpm[0-9]*")) for folder in SYSTEM_PATH.split(os.pathsep)
    )


def apt_install(packages: list[str]) -> str:
    """Install Debian packages; gives why it did not work, or nothing."""
    if shutil.which("apt-get") is None:
        return "no apt-get here"
    prefix: list[str] = []
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            return "neither root nor sudo"
        # Somebody at a terminal may type a password; nobody else waits for one.
        prefix = ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *APT_OPTIONS]
    for attempt in range(APT_ATTEMPTS):
        if attempt:
            time.sleep(5 * attempt)
        subprocess.run([*apt, "update"], check=False)  # a mirror that fails need not be the one with our packages
        install = [*apt, "install", "--no-install-recommends", *packages]
        if subprocess.run(install, check=False).returncode == 0:
            return ""
    return "apt-get failed"


# ------------------------------------------------------------------- other interpreters


def other_pythons() -> dict[str, str]:
    """Version -> interpreter, for each Python of the classifiers that is installed, the running one left out."""
    found: dict[str, str] = {}
    for version in _supported():
        if version == "{}.{}".format(*sys.version_info[:2]):
            continue
        for candidate in _candidates(version):
            if _is_python(candidate, version):
                found[version] = candidate
                break
    return found


def _supported() -> list[str]:
    import tomllib

    classifiers = tomllib.loads(PYPROJECT.read_text())["project"]["classifiers"]
    prefix = "Programming Language :: Python :: 3."
    return [line.rpartition(" ")[2] for line in classifiers if line.startswith(prefix)]


def _candidates(version: str) -> list[str]:
    name = f"python{version}"
    folders = [Path(folder) for folder in SYSTEM_PATH.split(os.pathsep)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders += sorted((folder / "bin" for folder in pyenv.glob(f"versions/{version}*")), reverse=True)
    return [str(folder / name) for folder in folders if (folder / name).is_file()]


def _is_python(candidate: str, version: str) -> bool:
    """Run it: a pyenv shim may stand for nothing. Free-threaded and unfinished Pythons are no targets yet."""
    probe = (
        "import sys, sysconfig, ssl, venv; "
        "print('%d.%d' % sys.version_info[:2], sys.version_info.releaselevel, sys.implementation.name,"
        " sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"
    )
    try:
        answer = subprocess.run([candidate, "-c", probe], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.stdout.split() == [version, "final", "cpython", "0"]


def on_other_pythons(module: str | None, arguments: list[str]) -> None:
    """Run `python -m module arguments` in an environment of each other interpreter; all of them, then the verdict.

    Without a module the environments are only made, all at once.
    """
    failed = []
    pythons = other_pythons()
    if not pythons:
        say("no other supported Python is installed here")

    def ensure(version: str) -> Path:
        return ensure_venv(ROOT / f".venv-{version}", ["test"], pythons[version])

    if module is None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(ensure, pythons))
        return
    for version in pythons:
        python = ensure(version)
        say(f"Python {version}: {module} {' '.join(arguments)}")
        if subprocess.run([str(python), "-m", module, *arguments], cwd=ROOT, check=False).returncode != 0:
            failed.append(version)
    if failed:
        give_up(f"failed on Python {', '.join(failed)}")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode != 0:
        give_up(f"failed: {' '.join(command)}")


def main() -> None:
    """One subcommand for each thing to set up."""
    if sys.version_info < MIN_PYTHON:
        give_up(
            "Python {}.{} or newer is needed, this is {}; name another one: make PYTHON=python3.12 ...".format(
                *MIN_PYTHON, sys.version.split()[0]
            )
        )
    parser = argparse.ArgumentParser(description="Set up what `make` needs.")
    acts = parser.add_subparsers(dest="act", required=True)
    venv = acts.add_parser("venv", help="a virtual environment with the package and dependency groups")
    venv.add_argument("folder")
    venv.add_argument("groups", nargs="+")
    programs = acts.add_parser("programs", help="servers, by apt-get if missing")
    programs.add_argument("names", nargs="*", help="by default all that tests start")
    others = acts.add_parser("others", help="run a module on every other supported Python that is installed")
    others.add_argument("module", nargs="?", help="none: only make the environments")
    others.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    # Whoever is run by this one ends with it, and does not go on alone.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if options.act == "venv":
        ensure_venv(ROOT / options.folder, options.groups, sys.executable)
    elif options.act == "programs":
        ensure_programs(options.names or sorted(PACKAGES))
    else:
        on_other_pythons(options.module, options.arguments)


if __name__ == "__main__":
    main()
