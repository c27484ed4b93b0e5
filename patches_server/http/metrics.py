"""`/metrics` for Prometheus: what the server counts, read for each request.

Needs the extra `patches-sync[metrics]`. There are no ids in the labels: neither documents nor
people can be recognised in the figures, and their number is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from aiohttp import web

from patches.errors import InvalidRequestError
from patches_server.service.stats import LATENCY_BOUNDS, Latencies

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from patches_server.service.cluster import Cluster
    from patches_server.service.server import PatchesServer

_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class ServerCollector:
    """A Prometheus collector over one server; register it in a registry of yours if you have one.

    Raises `InvalidRequestError` when `prometheus-client` is not installed.
    """

    def __init__(self, server: PatchesServer) -> None:
        try:
            import prometheus_client.core
        except ImportError as exc:
            raise InvalidRequestError(
                "metrics need prometheus-client: pip install 'patches-sync[metrics]'"
            ) from exc
        self._core = prometheus_client.core
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        server, stats = self._server, self._server.stats
        yield self._gauge("patches_connections", "Open connections", len(server.sessions))
        yield self._gauge("patches_subscriptions", "Subscriptions of all", len(server.hub))
        yield self._latencies(stats.commits)
        yield self._counter(
            "patches_broadcast_frames",
            "Notifications queued for subscribers",
            stats.broadcast_frames,
        )
        yield self._counter(
            "patches_queue_drops", "Connections cut off for reading slowly", stats.queue_drops
        )
        errors = self._core.CounterMetricFamily(
            "patches_errors", "Errors answered, by code", labels=["code"]
        )
        for code, count in stats.errors.items():
            errors.add_metric([code], count)
        yield errors
        yield self._counter(
            "patches_unappliable", "Committed changes that cannot be applied", server.unappliable
        )
        if server.cluster is not None:
            yield from self._cluster(server, server.cluster)
        yield self._counter(
            "patches_clock_jumps", "Leaps of the wall clock between commits", server.clock_jumps
        )

    def _cluster(self, server: PatchesServer, cluster: Cluster) -> Iterator[Metric]:
        """What one process of several is to be watched by."""
        stats = server.stats
        hints = self._core.CounterMetricFamily(
            "patches_hints", "Hints between processes", labels=["direction", "kind"]
        )
        for (direction, kind), count in list(stats.hints.items()):
            hints.add_metric([direction, kind], count)
        yield hints
        catch_ups = self._core.CounterMetricFamily(
            "patches_catch_ups", "Reads of what other processes committed", labels=["reason"]
        )
        for reason, count in list(stats.catch_ups.items()):
            catch_ups.add_metric([reason], count)
        yield catch_ups
        yield self._gauge("patches_bus_healthy", "1 while hints arrive", float(cluster.bus.healthy))
        yield self._gauge(
            "patches_followed_documents", "Documents with subscribers", len(cluster.follower)
        )
        yield self._counter(
            "patches_epoch_changes", "Times the storage had another history", stats.epoch_changes
        )

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        return self._core.GaugeMetricFamily(name, text, value=value)

    def _counter(self, name: str, text: str, value: float) -> Metric:
        return self._core.CounterMetricFamily(name, text, value=value)

    def _latencies(self, commits: dict[str, Latencies]) -> Metric:
        family = self._core.HistogramMetricFamily(
            "patches_commit_seconds", "Time to answer a commit", labels=["algorithm"]
        )
        bounds = [*map(str, LATENCY_BOUNDS), "+Inf"]
        for algorithm, latencies in commits.items():
            below = list(zip(bounds, accumulate(latencies.counts), strict=True))
            family.add_metric([algorithm], below, latencies.total_s)
        return family


def add_metrics(app: web.Application, server: PatchesServer) -> None:
    """Serve the figures of a server at `/metrics`. Raises `InvalidRequestError` as above."""
    collector = ServerCollector(server)
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": _TYPE})

    app.router.add_get("/metrics", metrics)
