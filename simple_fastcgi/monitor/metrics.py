"""A snapshot as metrics of prometheus_client, beside those of the application."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from .status import Snapshot

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
_COUNTERS = {
    "accepted conn": ("fcgi_accepted_connections", "Connections accepted from the web server"),
    "requests": ("fcgi_requests", "Requests that have ended"),
    "aborted requests": ("fcgi_aborted_requests", "Requests that the web server gave up"),
    "rejected requests": ("fcgi_rejected_requests", "Requests that were refused"),
    "failed requests": ("fcgi_failed_requests", "Requests whose handler raised"),
    "slow requests": ("fcgi_slow_requests", "Requests whose handlers took longer than slowlog_timeout"),
    "max children reached": ("fcgi_saturations", "How often all threads of a process were busy while others waited"),
    "bytes in": ("fcgi_received_bytes", "Bytes of request bodies"),
    "bytes out": ("fcgi_sent_bytes", "Bytes of response bodies"),
}
_GAUGES = {
    "start time": ("fcgi_start_time_seconds", "When the server started, in seconds since 1970"),
    "listen queue": ("fcgi_listen_queue", "Connections that wait to be accepted"),
    "listen queue len": ("fcgi_listen_queue_length", "Room for connections that wait"),
    "idle processes": ("fcgi_idle_processes", "Processes without a request"),
    "active processes": ("fcgi_active_processes", "Processes with a request"),
    "requests in flight": ("fcgi_requests_in_flight", "Requests that are being served"),
    "requests queued": ("fcgi_requests_queued", "Requests that wait for a thread"),
    "max active processes": ("fcgi_max_active_processes", "The most processes that had a request at once"),
    "max active requests": ("fcgi_max_active_requests", "The most requests that were served at once"),
    "connections": ("fcgi_connections", "Open connections"),
    "memory": ("fcgi_memory_bytes", "Memory of all processes"),
    "threads": ("fcgi_threads", "Threads of one process; 0: an event loop"),
}


class _Collector:
    """Gives what a snapshot tells."""

    def __init__(self, told: Snapshot) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for it."""
        told = self._told
        pool = [told["pool"]]
        for kind, table in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
            for key, (name, text) in table.items():
                family = kind(name, text, labels=["pool"])
                family.add_metric(pool, told[key])
                yield family
        latency = GaugeMetricFamily(
            "fcgi_request_latency_seconds", "Within which so many requests were answered", labels=["pool", "quantile"]
        )
        for key, value in told.items():
            if key.startswith("latency p"):
                latency.add_metric([*pool, f"{float(key.removeprefix('latency p')) / 100:g}"], value)
        yield latency
        limits = GaugeMetricFamily("fcgi_limit", "The settings that bound all this", labels=["pool", "setting"])
        for name, value in told["limits"].items():
            limits.add_metric([*pool, name], value)
        yield limits


def registry_of(told: Snapshot) -> CollectorRegistry:
    """A registry with the snapshot, and with the application's own metrics where they are those of all workers.

    That is prometheus_client's multiprocess mode: PROMETHEUS_MULTIPROC_DIR in the environment names its folder.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(told))
    if os.environ.get(MULTIPROCESS):
        MultiProcessCollector(registry)
    return registry


def missing_folder() -> str:
    """The folder of the multiprocess mode, if it is not there; else empty."""
    folder = os.environ.get(MULTIPROCESS, "")
    return "" if os.path.isdir(folder) else folder


def forget(pid: int) -> None:
    """A process has ended: its share of gauges that are told of living ones only."""
    if os.environ.get(MULTIPROCESS) and not missing_folder():
        mark_process_dead(pid)
