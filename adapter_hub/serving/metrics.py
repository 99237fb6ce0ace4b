"""What a server counts, for Prometheus.

metrics = Metrics(engine.statistics, models.residents.held, requests)
metrics.answered("transcriptions", 200, seconds=0.4)
metrics.text()

Labels are the routes and the adapters that exist, never what a client wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from adapter_hub.model.loading import ResidentAdapter
from adapter_hub.serving.engine import Statistics

CONTENT_TYPE = CONTENT_TYPE_LATEST
NAMES = "adapter_hub"
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
FACTORS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """The counters of one server."""

    def __init__(
        self,
        statistics: Callable[[], Statistics],
        residents: Callable[[], Sequence[ResidentAdapter]],
        requests: Callable[[], int],
    ) -> None:
        """Start at zero.

        Args:
            statistics: of the engine.
            residents: the adapters in memory.
            requests: how many are being received or wait.
        """
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "requests", "Requests answered.", ["route", "status"], namespace=NAMES, registry=self.registry
        )
        self._seconds = Histogram(
            "request_seconds",
            "Seconds from a request's first byte to the end of its answer.",
            ["route"],
            namespace=NAMES,
            registry=self.registry,
            buckets=SECONDS,
        )
        self._factor = Histogram(
            "real_time_factor",
            "Seconds of audio by seconds of waiting, of each transcription.",
            ["adapter"],
            namespace=NAMES,
            registry=self.registry,
            buckets=FACTORS,
        )
        self.registry.register(_Engine(statistics, residents, requests))

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            route: its short name.
            status: of the answer.
            seconds: that it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def transcribed(self, adapter: str, audio: float, seconds: float) -> None:
        """Count a transcription.

        Args:
            adapter: that most of it was transcribed with.
            audio: its duration in seconds.
            seconds: that it took.
        """
        self._factor.labels(adapter).observe(audio / max(seconds, 1e-6))

    def text(self) -> bytes:
        """Return all in Prometheus' format."""
        return generate_latest(self.registry)


class _Engine(Collector):
    """What the engine and the adapters in memory say when they are asked."""

    def __init__(
        self,
        statistics: Callable[[], Statistics],
        residents: Callable[[], Sequence[ResidentAdapter]],
        requests: Callable[[], int],
    ) -> None:
        self._statistics, self._residents, self._requests = statistics, residents, requests

    def describe(self) -> list[Metric]:
        """Return nothing: what there is is known when it is collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        found = self._statistics()
        yield _gauge("requests_open", "Requests being received or waiting.", self._requests())
        yield _gauge("jobs", "Recordings accepted and not transcribed yet.", found.jobs)
        yield _gauge("windows_waiting", "Windows that wait to be decoded.", found.windows)
        yield _gauge("batch_fill", "Mean share of a batch's places that were taken.", found.batch_fill)
        yield _counter("batches", "Batches decoded.", found.batches)
        about = "Recordings by how they ended."
        outcomes = CounterMetricFamily(f"{NAMES}_recordings", about, labels=["outcome"])
        for outcome in ("finished", "failed", "cancelled"):
            outcomes.add_metric([outcome], getattr(found, outcome))
        yield outcomes
        for name, about, values in (
            ("audio_seconds", "Seconds of audio transcribed.", found.audio_seconds),
            ("compute_seconds", "Seconds of the decoding thread.", found.compute_seconds),
        ):
            family = CounterMetricFamily(f"{NAMES}_{name}", about, labels=["adapter"])
            for adapter, value in values.items():
                family.add_metric([adapter], value)
            yield family
        resident = GaugeMetricFamily(f"{NAMES}_resident_bytes", "Memory of adapters.", labels=["adapter"])
        for item in self._residents():
            resident.add_metric([item.name], item.bytes)
        yield resident


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{NAMES}_{name}", about, value=value)


def _counter(name: str, about: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"{NAMES}_{name}", about, value=value)
