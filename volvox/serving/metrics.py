"""What a server did and does, for Prometheus.

Counters and histograms are fed as requests are answered; queue, workers and memory are read when they are asked for.
Each server has a registry of its own, so that two in one process do not add up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from volvox.serving.served import ServedModel

UNKNOWN = ""  # the model of requests for a name that is not served: a client may send any number of names
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The numbers of one server."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        """The numbers of a server of `models`, which is iterated over anew each time that they are asked for."""
        self.registry = registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            "volvox_requests", "Inference requests that were answered.", ("model", "status"), registry=registry
        )
        self._seconds = prometheus_client.Histogram(
            "volvox_request_seconds", "From a request's first header to the last byte of its answer.", ("model",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._batch = prometheus_client.Histogram(
            "volvox_batch_requests", "Requests that went to a worker together.", ("model",),
            buckets=_BATCHES, registry=registry,
        )  # fmt: skip
        self._bodies = prometheus_client.Counter(
            "volvox_request_body_bytes", "Bytes of the bodies of inference requests.", ("model",), registry=registry
        )
        self._models = models
        self._memory: dict[int, int] = {}
        self._known: dict[tuple[str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._bytes: dict[str, Callable[[float], None]] = {}
        prometheus_client.ProcessCollector(registry=registry)
        registry.register(_Models(self))

    def answered(self, name: str, status: int, seconds: float) -> None:
        """A request for model `name` was answered: costs two microseconds."""
        known = self._known.get((name, status))
        if known is None:
            label = self._label(name)
            known = self._requests.labels(label, str(status)).inc, self._seconds.labels(label).observe
            if label == name:
                self._known[name, status] = known
        count, observe = known
        count()
        observe(seconds)

    def received(self, name: str, size: int) -> None:
        """A body of `size` bytes came for model `name`."""
        add = self._bytes.get(name)
        if add is None:
            label = self._label(name)
            add = self._bodies.labels(label).inc
            if label == name:
                self._bytes[name] = add
        add(size)

    def batches(self, name: str) -> Callable[[int], None]:
        """What is to be told how many requests go to a worker of model `name` together."""
        return self._batch.labels(name).observe

    async def told(self, accept: str) -> tuple[bytes, str]:
        """The numbers, in the format that an Accept header prefers, and its content type."""
        pids = [pid for model in self._models for pid in model.worker_pids]
        # Of a process with many pages the kernel needs milliseconds to say how many are its own.
        self._memory = dict(zip(pids, await asyncio.to_thread(lambda: [memory(pid) for pid in pids]), strict=True))
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _label(self, name: str) -> str:
        return name if any(model.deployed.name == name for model in self._models) else UNKNOWN


class _Models:
    """Reads queue, workers and memory of the models when the numbers are asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        """The names, so that the registry need not collect to know them."""
        return iter(self._families())

    def collect(self) -> Iterator[Metric]:
        ready, waiting, at_work, workers, memory_bytes, restarts = families = self._families()
        for model in self._metrics._models:
            name, pool, pids = [model.deployed.name], model.pool, model.worker_pids
            ready.add_metric(name, model.state == "ready")
            waiting.add_metric(name, len(pool.waiting))
            at_work.add_metric(name, pool.open - len(pool.waiting))
            workers.add_metric(name, len(pids))
            memory_bytes.add_metric(name, sum(self._metrics._memory.get(pid, 0) for pid in pids))
            restarts.add_metric(name, model.restarts)
        return iter(families)

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily | CounterMetricFamily, ...]:
        label = ["model"]
        return (
            GaugeMetricFamily("volvox_model_ready", "1 while the model can answer.", labels=label),
            GaugeMetricFamily("volvox_requests_waiting", "Requests that no worker has yet.", labels=label),
            GaugeMetricFamily("volvox_requests_at_work", "Requests that a worker has.", labels=label),
            GaugeMetricFamily("volvox_workers", "Processes that answer.", labels=label),
            GaugeMetricFamily(
                "volvox_worker_memory_bytes", "Memory of the workers; what they share is divided.", labels=label
            ),
            CounterMetricFamily("volvox_worker_restarts", "Workers that died or were stuck.", labels=label),
        )


def memory(pid: int) -> int:
    """Bytes of memory that process `pid` holds; 0 if it is gone.

    Pages that several processes share count in proportion (PSS), where the kernel tells that to this user; else in
    full (RSS).
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"VmRSS:"):
                return int(line.split()[1]) << 10
    return 0


def routes() -> list[Route]:
    """`/metrics`."""
    return [Route("/metrics", _metrics)]


def paths() -> dict[str, object]:
    """What the OpenAPI document says of `/metrics`."""
    answer = {"200": {"description": "The metrics.", "content": {"text/plain": {}}}}
    return {"/metrics": {"get": {"summary": "Metrics for Prometheus", "tags": ["operation"], "responses": answer}}}


async def _metrics(request: Request) -> Response:
    body, content_type = await request.app.state.services.metrics.told(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})
