"""What the server serves: models as it offers them, and open ones as the APIs use them.

The command line says how to open one, because this layer stands below gemstead.open. Neighbour: shelf.py
opens and closes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineStats
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

    def close(self) -> None:
        """Let go of weights and memory."""


@dataclass(frozen=True)
class Offer:
    """A model under its name and its aliases. `open` takes the most bytes that its K/V may have.

    What only describes it: the file's kind of container and number format, its hash, how many weights it has.
    """

    name: str
    open: Callable[[int], OpenModel]
    spec: ModelSpec
    weights_bytes: int
    aliases: tuple[str, ...] = ()
    container: str = ""
    format: str = ""
    digest: str = ""
    parameters: int = 0
    since: int = field(default_factory=lambda: int(time.time()))

    @property
    def names(self) -> tuple[str, ...]:
        """All names it answers to."""
        return (self.name, *self.aliases)


@dataclass(frozen=True)
class Served:
    """An open model."""

    model: OpenModel
    thinking: ThinkingChoice = False  # where a request says nothing

    @property
    def context_tokens(self) -> int:
        """The longest conversation it can hold."""
        return self.model.engine.max_sequence_tokens

    def raw_ids(self, prompt: str) -> list[int]:
        """A prompt as it is, without a chat template: the token that begins texts, if any, and its own."""
        bos = self.model.spec.tokens.bos
        return [*([] if bos is None else [bos]), *self.model.tokenizer.encode(prompt)]
