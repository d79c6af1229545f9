"""A cluster on one machine: application servers on three hosts, HAProxy or nginx in front, and what goes wrong.

    python -m examples.cluster haproxy

Under load one host is cut off and brought back, one drained and brought back, one ended without a word, one killed.
Prints what was seen. Exit status: 1 if a request failed that may be repeated, 2 if the cluster cannot be made.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .network import Network, NetworkError
from .programs import CLIENT, FRONT, HOSTS, AppServer, Balancer, ClusterError, HaProxy, HaProxyMultiplexed, Load, Nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BALANCERS: dict[str, Callable[[Network, Path], Balancer]] = {
    "haproxy": HaProxy,
    "haproxy-mpxs": HaProxyMultiplexed,
    "nginx": Nginx,
}
ENOUGH = 50
"""So many answers show that requests flow."""


class Run:
    """One run: the steps, and what was seen in each."""

    def __init__(
        self,
        network: Network,
        balancer: Callable[[Network, Path], Balancer],
        visitors: int,
        seconds: float,
        folder: Path,
        stack: ExitStack,
    ):
        self._network = network
        self._folder = folder
        self._stack = stack
        self._seconds = seconds
        self._apps = {host: self._start(host) for host in HOSTS}
        for app in self._apps.values():
            app.ready()
        self._front = stack.enter_context(balancer(network, folder))
        self._load = stack.enter_context(Load(network, visitors, folder))

    def _start(self, host: str) -> AppServer:
        return self._stack.enter_context(AppServer(self._network, host, self._folder, self._seconds))

    @contextmanager
    def _step(self, what: str) -> Iterator[list[str]]:
        """Tell what was done, how many requests failed meanwhile, and how long the slowest one took."""
        before = self._load.seen
        self._load.longest = 0.0
        told: list[str] = []
        began = time.monotonic()
        yield told
        after = self._load.seen
        failed = [f"{after['failed'].get(m, 0) - before['failed'].get(m, 0)} {m}" for m in ("GET", "POST")]
        told += [f"failed {' and '.join(failed)} of {after['done'] - before['done']}"]
        told += [f"longest answer {self._load.longest:.2f} s"]
        print(f"{time.monotonic() - began:5.1f} s  {what}: {', '.join(told)}", flush=True)

    def run(self, steps: Iterable[str], requests: int) -> bool:
        """All of these steps, and then until so many requests are answered; whether none failed but for POST."""
        load = self._load
        with self._step("all three hosts"):
            for host in HOSTS:
                load.serves(host, 1)
        for name in steps:
            STEPS[name](self)
        with self._step("all three hosts"):
            load.wait_until(f"{requests} requests", lambda seen: seen["done"] >= requests)
            load.finish()
        seen = load.seen
        hosts = ", ".join(f"{host} {seen['hosts'].get(host, 0)}" for host in HOSTS)
        failed = {method: seen["failed"].get(method, 0) for method in ("GET", "POST")}
        print(
            f"{seen['done']} requests ({hosts}): {failed['GET']} GET failed, {failed['POST']} POST;"
            f" {seen['again']} GET were sent again by the visitor"
        )
        for reason in seen["reasons"]:
            print(f"    {reason}")
        return bool(failed["GET"] == 0)

    def cut(self) -> None:
        with self._step("a is cut off") as told:
            self._network.cut("a")
            self._tell(told, "a", up=False)
            self._load.flows(ENOUGH)
        with self._step("a is back") as told:
            self._network.restore("a")
            self._tell(told, "a", up=True)
            self._load.serves("a", ENOUGH)

    def drain(self) -> None:
        with self._step("b is drained, ended (SIGTERM) and started again"):
            self._front.drain("b")
            self._end("b")
            self._load.flows(ENOUGH)
            self._restart("b")
            self._front.undrain("b")
            self._load.serves("b", ENOUGH)

    def end(self) -> None:
        with self._step("c is ended (SIGTERM) without being drained") as told:
            self._end("c")
            self._missed(told, "c")

    def kill(self) -> None:
        with self._step("c is killed (SIGKILL)") as told:
            self._apps["c"].kill()
            self._missed(told, "c")

    def _missed(self, told: list[str], host: str) -> None:
        """Wait until the others serve alone, and start `host` again."""
        self._tell(told, host, up=False)
        self._load.flows(ENOUGH)
        self._restart(host)
        self._tell(told, host, up=True)
        self._load.serves(host, ENOUGH)

    def _tell(self, told: list[str], host: str, *, up: bool) -> None:
        seconds = self._front.notices(host, up)
        if seconds is not None:
            told.append(f"{'there' if up else 'missing'} after {seconds:.1f} s")

    def _restart(self, host: str) -> None:
        self._apps[host] = self._start(host)
        self._apps[host].ready()

    def _end(self, host: str) -> None:
        status = self._apps[host].terminate()
        if status != 0:
            raise ClusterError(f"the application on {host} has ended with {status}:\n{self._apps[host].log()}")


STEPS = {"cut": Run.cut, "drain": Run.drain, "end": Run.end, "kill": Run.kill}


def leave(number: int, _: object) -> NoReturn:
    """End in good order: all that was made is removed, and a second signal does not interrupt that."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.cluster", description=__doc__.partition("\n")[0])
    parser.add_argument("balancer", choices=BALANCERS, help="what stands in front")
    parser.add_argument("--requests", type=int, default=20_000, help="at least (default: %(default)s)")
    parser.add_argument("--visitors", type=int, default=32, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.005, help="for one answer (default: %(default)s)")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="what happens (default: all)")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    hosts = {"front": FRONT, "client": CLIENT, **HOSTS}
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fcgi-cluster-")))
            network = stack.enter_context(Network({host: f"{address}/24" for host, address in hosts.items()}))
            run = Run(network, BALANCERS[options.balancer], options.visitors, options.seconds, folder, stack)
            return 0 if run.run(options.steps, options.requests) else 1
    except (NetworkError, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
