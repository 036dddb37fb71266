"""What the engine may use, and what it reports: its options and its statistics, as plain values.

Checks only what contradicts itself; engine.py turns bytes into pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gemstead.engine.pages import PageBudget, PoolCounts
from gemstead.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How much the engine may use and how it shares it out.

    memory_bytes is the hard ceiling of all K/V pages. context_tokens None: the model's own limit.
    max_rows bounds the tokens of one forward; draft_tokens the guesses verified per sequence, of which
    adapt_depth takes as many as have paid so far.
    prefix_folder keeps cold prefixes on disk; it belongs to one model. It and the folders of other models
    beside it hold prefix_bytes at most.
    """

    memory_bytes: int = 1 << 30
    context_tokens: int | None = None
    page_tokens: int = 32
    max_rows: int = 512
    max_sequences: int = 16
    draft_tokens: int = 4
    adapt_depth: bool = True
    prefix_reuse: bool = True
    prefix_folder: Path | None = None
    prefix_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        for name, low in (("page_tokens", 1), ("max_rows", 1), ("max_sequences", 1), ("draft_tokens", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} = {getattr(self, name)} is too small; the least is {low}")
        if self.max_rows < self.max_sequences:
            raise ConfigError(
                f"max_rows = {self.max_rows} is less than max_sequences = {self.max_sequences}: "
                "every decoding sequence needs a row per step"
            )
        if self.context_tokens is not None and self.context_tokens < 1:
            raise ConfigError(f"context = {self.context_tokens} tokens is too small; the least is 1")

    def budget(self, max_position_embeddings: int, slack: int = 0) -> PageBudget:
        """What the pages of a model with this limit are cut from; `slack`: drafted rows of a sequence."""
        return PageBudget(
            memory_bytes=self.memory_bytes,
            page_tokens=self.page_tokens,
            context_tokens=min(self.context_tokens or max_position_embeddings, max_position_embeddings),
            max_sequences=self.max_sequences,
            span_tokens=self.max_rows + 2 * slack,
        )


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine has done since it was made, and what it holds now.

    Of cache_bytes, kept_bytes lie in pages that no sequence uses: prefixes kept for reuse.
    """

    memory_bytes: int
    cache_bytes: int
    kept_bytes: int
    weights_bytes: int
    pools: tuple[PoolCounts, ...]
    live_sequences: int
    waiting_sequences: int
    steps: int
    rows: int
    cached_tokens: int
    generated_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    preemptions: int
    draft_failures: int
    failed_sequences: int
