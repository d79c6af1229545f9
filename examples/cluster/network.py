"""Hosts on one switch, each a network namespace with an address of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_numbers = itertools.count(1)
_SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class NetworkError(Exception):
    """The network cannot be made; the message says how to mend that."""


class Network:
    """A context: the hosts exist within it, and nothing of them is left behind it.

    `hosts`: name -> IPv4 address with the length of its prefix, as ``10.77.0.11/24``. All of it lies in namespaces, the
    switch as well, whose names have the process's number: networks of several processes do not see each other, and
    addresses and interfaces of the machine itself do not matter.
    """

    def __init__(self, hosts: Mapping[str, str]) -> None:
        ip = shutil.which("ip", path=_SYSTEM_PATH)
        if ip is None:
            raise NetworkError("the program ip is missing; on Debian: apt-get install iproute2")
        self._ip = ip
        self._prefix = f"fcgi-{os.getpid()}-{next(_numbers)}"
        self._hosts = dict(hosts)

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def command(self, host: str, *command: str) -> list[str]:
        """What to run so that `command` runs on that host; the process is the command's own."""
        return [self._ip, "netns", "exec", self._name(host), *command]

    def cut(self, host: str) -> None:
        """Pull the host's cable, at the switch."""
        self._switch("link", "set", "dev", host, "down")

    def restore(self, host: str) -> None:
        """Plug it in again."""
        self._switch("link", "set", "dev", host, "up")

    def _make(self) -> None:
        self._add("switch")
        self._switch("link", "add", "bridge", "type", "bridge")
        self._switch("link", "set", "bridge", "up")
        for host, address in self._hosts.items():
            self._add(host)
            peer = ("peer", "name", "eth0", "netns", self._name(host))
            self._switch("link", "add", "name", host, "type", "veth", *peer)
            self._switch("link", "set", "dev", host, "master", "bridge", "up")
            inside = ("-n", self._name(host))
            self._run(*inside, "address", "add", address, "dev", "eth0")
            self._run(*inside, "link", "set", "eth0", "up")
            self._run(*inside, "link", "set", "lo", "up")

    def _add(self, host: str) -> None:
        try:
            self._run("netns", "add", self._name(host))
        except NetworkError as error:
            raise NetworkError(
                f"{error}\nNetwork namespaces need root, or the capabilities SYS_ADMIN and NET_ADMIN; a container has"
                " them with --privileged."
            ) from None

    def _remove(self) -> None:
        """Take the namespaces away, and with them the interfaces; end what still runs in them, or they would stay."""
        for host in ("switch", *self._hosts):
            name = self._name(host)
            if not os.path.exists(f"/run/netns/{name}"):  # making has failed
                continue
            for pid in self._run("netns", "pids", name).split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._run("netns", "delete", name)

    def _name(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    def _switch(self, *arguments: str) -> None:
        self._run("-n", self._name("switch"), *arguments)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([self._ip, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
        return done.stdout
