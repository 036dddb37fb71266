"""What the server measures, in Prometheus' words: requests, tokens, times, memory.

Its own registry, so that two servers in one process do not mix. The engine's figures are read when
somebody asks. Neighbours: app.py counts requests, exchange.py fills their records.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gemstead.server.exchange import Desk, Record

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one server."""

    def __init__(self, desk: Desk) -> None:
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
        stats = desk.served.model.stats
        figures = {
            "gemstead_answers": ("Answers under way or waiting", lambda: desk.runner.admitted),
            "gemstead_sequences_live": ("Sequences in the batch", lambda: stats().live_sequences),
            "gemstead_sequences_waiting": ("Sequences that wait for room", lambda: stats().waiting_sequences),
            "gemstead_kv_bytes": ("Memory that keys and values have", lambda: stats().cache_bytes),
            "gemstead_kv_ceiling_bytes": ("The most it can become", lambda: stats().memory_bytes),
            "gemstead_kv_pages_live": ("Pages in use", lambda: sum(p.live for p in stats().pools)),
            "gemstead_kv_pages_total": ("Pages there are", lambda: sum(p.total for p in stats().pools)),
            "gemstead_preemptions": ("Sequences that lost their pages", lambda: stats().preemptions),
            "gemstead_steps": ("Forwards computed", lambda: stats().steps),
        }
        for name, (about, value) in figures.items():
            Gauge(name, about, registry=r).set_function(value)

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
