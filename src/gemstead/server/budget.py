"""How the server's memory is shared out: one ceiling, fixed at the start, and what each model may have of it.

Arithmetic only. Under the ceiling lie the process itself, stored responses, bodies of requests, and of every
open model its weights, its K/V pages (the prefixes kept for reuse are among them) and its working memory.
Above: shelf.py opens models within it, control.py and metrics.py show it.
"""

from __future__ import annotations

from collections.abc import Sequence as Listing
from dataclasses import dataclass

from gemstead.errors import ConfigError
from gemstead.machine.memory import LEAST_KV_BYTES, available_bytes, resident_bytes
from gemstead.server.served import Offer

MOST_RESPONSES_BYTES = 64 << 20
MOST_BODIES_BYTES = 128 << 20  # four of the longest
# Of what is free when the server starts; the rest stays for the other programs of the machine.
SHARE = 0.75
# Of an open model beside weights, K/V and its forwards: the tokenizer and the grammars' trie, 220 MB for
# 262,144 tokens (E2B with tools, a process' peak, 2026-11-26); and the libraries that opening loads, with
# what requests under way are made of: 39 MiB with 64 of all kinds at once, prompts of 4,000 tokens, measured
# with pebble (docs/adr/0012).
_TEXT_BYTES_PER_TOKEN = 900
_OPEN_BYTES = 48 << 20


@dataclass(frozen=True)
class Budget:
    """The ceiling, what is taken from it before any model, and the K/V that models have under it."""

    ceiling_bytes: int
    process_bytes: int
    offers: tuple[Offer, ...]

    @classmethod
    def of(cls, offers: Listing[Offer], ceiling_bytes: int | None = None) -> Budget:
        """Under the given ceiling, or the machine's; ConfigError for a model that can never be open."""
        process = resident_bytes()
        largest = max(_needs(offer) for offer in offers)
        if ceiling_bytes is None:  # one model opens as it does elsewhere, even where it will be slow
            least = process + MOST_RESPONSES_BYTES + MOST_BODIES_BYTES + largest
            return cls(max(int(available_bytes() * SHARE), least), process, tuple(offers))
        budget = cls(ceiling_bytes, process, tuple(offers))
        for offer in offers:
            if _needs(offer) > budget.room_bytes:
                raise ConfigError(
                    f"{offer.name} can never be opened within {ceiling_bytes:,} bytes: it needs "
                    f"{_needs(offer):,} (weights of {offer.weights_bytes:,}, adapters and the least for its "
                    f"context), the server itself {budget.fixed_bytes:,}; give more --memory, or leave it out"
                )
        return budget

    @property
    def responses_bytes(self) -> int:
        """The most that stored responses may take in memory."""
        return min(MOST_RESPONSES_BYTES, self.ceiling_bytes // 16)

    @property
    def bodies_bytes(self) -> int:
        """What the bodies of requests under way may take: half of it as they came, half as what they say."""
        return min(MOST_BODIES_BYTES, self.ceiling_bytes // 16)

    @property
    def fixed_bytes(self) -> int:
        """What is taken whatever is open."""
        return self.process_bytes + self.responses_bytes + self.bodies_bytes

    @property
    def room_bytes(self) -> int:
        """What open models share."""
        return self.ceiling_bytes - self.fixed_bytes

    def kv_bytes(self, offer: Offer) -> int:
        """The most K/V of a model: an even share where all can be open at once, else half of what is left."""
        spare = self.room_bytes - sum(_needs(one) for one in self.offers)
        if spare >= 0:
            return LEAST_KV_BYTES + spare // len(self.offers)
        return LEAST_KV_BYTES + max(0, self.room_bytes - _needs(offer)) // 2

    def bytes_of(self, offer: Offer) -> int:
        """What the model takes of the room while it is open."""
        return _needs(offer) - LEAST_KV_BYTES + self.kv_bytes(offer)


def _needs(offer: Offer) -> int:
    """The least with which a model can be open."""
    adapters = sum(one.held_bytes for one in offer.adapters)
    return offer.weights_bytes + adapters + working_bytes(offer) + LEAST_KV_BYTES


def working_bytes(offer: Offer) -> int:
    """What an open model takes beside weights and K/V."""
    return offer.work_bytes + _OPEN_BYTES + _TEXT_BYTES_PER_TOKEN * offer.spec.vocab_size
