"""What the server measures, in Prometheus' words: requests, tokens, times, memory.

Its own registry, so that two servers in one process do not mix. The engine's figures are read when
somebody asks. Neighbours: app.py counts requests, exchange.py fills their records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gemstead.engine.options import EngineStats
from gemstead.machine.memory import resident_bytes
from gemstead.server.budget import working_bytes
from gemstead.server.exchange import Desk, Record
from gemstead.server.responses_store import ResponseStore
from gemstead.server.shelf import Shelf

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one server."""

    def __init__(self, desk: Desk, store: ResponseStore) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._requests = Counter(
            "gemstead_requests", "HTTP requests answered", ["endpoint", "status"], registry=r
        )
        self._prompt = Counter("gemstead_prompt_tokens", "Tokens of prompts", registry=r)
        self._cached = Counter(
            "gemstead_cached_tokens", "Tokens of prompts that were not read again", registry=r
        )
        self._completion = Counter("gemstead_completion_tokens", "Tokens generated", registry=r)
        self._first = Histogram(
            "gemstead_time_to_first_token_seconds", "From the request to its first token",
            buckets=_SECONDS, registry=r,
        )  # fmt: skip
        self._whole = Histogram(
            "gemstead_request_seconds", "From the request to its last byte", buckets=_SECONDS, registry=r
        )
        r.register(_Figures(desk, store))

    def count(self, record: Record, status: int, seconds: float) -> None:
        """One request has ended."""
        self._requests.labels(record.endpoint, str(status)).inc()
        self._whole.observe(seconds)
        self._prompt.inc(record.usage.prompt_tokens)
        self._cached.inc(record.usage.cached_tokens)
        self._completion.inc(record.usage.completion_tokens)
        if record.first_s is not None:
            self._first.observe(record.first_s)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)


class _Figures(Collector):
    """What the models do and hold, read when somebody asks."""

    def __init__(self, desk: Desk, store: ResponseStore) -> None:
        self._shelf, self._store = desk.shelf, store

    def collect(self) -> Iterator[Metric]:
        """All gauges."""
        memory = memory_of(self._shelf, self._store)
        ceiling = memory.pop("ceiling")
        yield _gauge("gemstead_memory_bytes", "Memory held, by kind", "kind", memory)
        yield GaugeMetricFamily("gemstead_memory_ceiling_bytes", "The most it may become", value=ceiling)
        opens = {place.offer.name: float(place.opened is not None) for place in self._shelf.places}
        yield _gauge("gemstead_model_open", "Whether a model is open", "model", opens)
        stats = {place.offer.name: opened.served.model.stats() for place, opened in self._shelf.opened}
        answers = {place.offer.name: opened.runner.admitted for place, opened in self._shelf.opened}
        yield _gauge("gemstead_answers", "Answers under way or waiting", "model", answers)
        for name, (about, value) in _OF_MODELS.items():
            yield _gauge(name, about, "model", {model: value(one) for model, one in stats.items()})


_OF_MODELS: dict[str, tuple[str, Callable[[EngineStats], float]]] = {
    "gemstead_sequences_live": ("Sequences in the batch", lambda s: s.live_sequences),
    "gemstead_sequences_waiting": ("Sequences that wait for room", lambda s: s.waiting_sequences),
    "gemstead_kv_bytes": ("Memory that keys and values have", lambda s: s.cache_bytes),
    "gemstead_kv_ceiling_bytes": ("The most it can become", lambda s: s.memory_bytes),
    "gemstead_kv_pages_live": ("Pages in use", lambda s: sum(p.live for p in s.pools)),
    "gemstead_kv_pages_total": ("Pages there are", lambda s: sum(p.total for p in s.pools)),
    "gemstead_preemptions": ("Sequences that lost their pages", lambda s: s.preemptions),
    "gemstead_steps": ("Forwards computed", lambda s: s.steps),
}


def memory_of(shelf: Shelf, store: ResponseStore) -> dict[str, int]:
    """Bytes by kind. `kv` is what pages may take, `prefix` the part of it that is kept for reuse;
    `working` is reserved beside them, bodies of requests too, `resident` what the system says this process
    holds of it all."""
    stats = [opened.served.model.stats() for _, opened in shelf.opened]
    working = sum(working_bytes(place.offer) for place, _ in shelf.opened)
    return {
        "ceiling": shelf.budget.ceiling_bytes,
        "weights": sum(s.weights_bytes for s in stats),
        "kv": sum(s.cache_bytes for s in stats),
        "prefix": sum(s.kept_bytes for s in stats),
        "responses": store.bytes_held,
        "working": working + shelf.budget.process_bytes + shelf.budget.bodies_bytes,
        "resident": resident_bytes(),
    }


def _gauge(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
