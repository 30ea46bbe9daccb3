"""What Prometheus reads at /metrics: requests, pictures, batches, queue and memory.

Each application has a registry of its own. Labels come from short lists only (routes, adapters in memory,
status numbers): what a stranger writes never becomes one.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
PICTURES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "vitrim_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "vitrim_request_seconds",
            "Seconds from the first byte of a request to the end of its answer",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.pictures = Counter(
            "vitrim_pictures", "Pictures answered, by adapter", ["adapter"], registry=self.registry
        )
        self.batch_pictures = Histogram(
            "vitrim_batch_pictures", "Pictures computed at a time", buckets=PICTURES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "vitrim_batch_seconds", "Seconds to compute a batch", buckets=SECONDS, registry=self.registry
        )
        self.adapter_bytes = Gauge(
            "vitrim_adapter_bytes", "Bytes of memory of each adapter", ["adapter"], registry=self.registry
        )

    def show(self, name: str, explanation: str, value: Callable[[], float]) -> None:
        """A gauge that is read when Prometheus asks."""
        Gauge(f"vitrim_{name}", explanation, registry=self.registry).set_function(value)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        known = method if method in ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS") else "other"
        self.requests.labels(known, route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)

    def batched(self, pictures: int, seconds: float) -> None:
        self.batch_pictures.observe(pictures)
        self.batch_seconds.observe(seconds)

    def loaded(self, adapter: str, count: int) -> None:
        self.adapter_bytes.labels(adapter).set(count)

    def unloaded(self, adapter: str) -> None:
        self.adapter_bytes.remove(adapter)
        self.pictures.remove(adapter)

    def text(self) -> bytes:
        return generate_latest(self.registry)
