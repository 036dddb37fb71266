"""What the server serves: one open model behind its names, and what it asks of it.

The command line opens the model and hands it over, because this layer stands below gemstead.open.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineStats
from gemstead.server.refusals import Refusal
from gemstead.session import Session
from gemstead.spec.model import ModelSpec
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import SamplingParams, ThinkingChoice


class OpenModel(Protocol):
    """The part of gemstead.Model that a server stands on."""

    engine: Engine
    sampling: SamplingParams

    @property
    def spec(self) -> ModelSpec:
        """Sizes and layers."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back."""

    @property
    def session(self) -> Session:
        """Requests to events."""

    def stats(self) -> EngineStats:
        """What the engine did and holds."""


@dataclass(frozen=True)
class Served:
    """A model under its name and its aliases."""

    name: str
    model: OpenModel
    aliases: tuple[str, ...] = ()
    thinking: ThinkingChoice = False  # where a request says nothing
    since: int = field(default_factory=lambda: int(time.time()))

    @property
    def names(self) -> tuple[str, ...]:
        """All names it answers to."""
        return (self.name, *self.aliases)

    @property
    def context_tokens(self) -> int:
        """The longest conversation it can hold."""
        return self.model.engine.max_sequence_tokens

    def raw_ids(self, prompt: str) -> list[int]:
        """A prompt as it is, without a chat template: the token that begins texts, if any, and its own."""
        bos = self.model.spec.tokens.bos
        return [*([] if bos is None else [bos]), *self.model.tokenizer.encode(prompt)]

    def check_name(self, asked: str) -> None:
        """A Refusal (404) for a model that is not served; Ollama's ':latest' is no other model."""
        if asked.removesuffix(":latest") not in self.names:
            raise Refusal(
                404,
                f"the model {asked[:200]!r} is not served here; served are {', '.join(self.names)}",
                param="model",
                code="model_not_found",
            )
