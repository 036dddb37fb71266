"""What the server serves: models as it offers them, and open ones as the APIs use them.

The command line says how to open one, because this layer stands below gemstead.open. Neighbour: shelf.py
opens and closes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field, replace
from typing import Protocol

from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineStats
from gemstead.session import Pooling, Session, Stream
from gemstead.spec.model import ModelSpec
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import Request, SamplingParams, ThinkingChoice


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
class AdapterOffer:
    """An adapter (LoRA) under a model name of its own; the model it tunes computes it, no second one.

    nbytes is the size of its matrices in the file, `digest` a hash of them and of the model.
    """

    name: str
    nbytes: int = 0
    parameters: int = 0
    digest: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names it answers to."""
        return (self.name, *self.aliases)

    @property
    def held_bytes(self) -> int:
        """The most it takes while its model is open: all of it in float32."""
        return 4 * self.parameters


@dataclass(frozen=True)
class Offer:
    """A model under its name, its aliases and those of its adapters. `open` takes the most bytes of its K/V.

    What only describes it: its file's size, container, number format and hash, and how many weights it has.
    """

    name: str
    open: Callable[[int], OpenModel]
    spec: ModelSpec
    weights_bytes: int
    aliases: tuple[str, ...] = ()
    adapters: tuple[AdapterOffer, ...] = ()
    work_bytes: int = 0  # of its largest forwards, and its drafter
    file_bytes: int = 0
    container: str = ""
    format: str = ""
    digest: str = ""
    parameters: int = 0
    since: int = field(default_factory=lambda: int(time.time()))

    @property
    def names(self) -> tuple[str, ...]:
        """All names it answers to."""
        return (self.name, *self.aliases, *(name for one in self.adapters for name in one.names))

    def called(self, names: Mapping[str, Listing[str]]) -> Offer:
        """The same, with the aliases of the model and of its adapters by their names."""
        adapters = tuple(replace(one, aliases=tuple(names[one.name])) for one in self.adapters)
        return replace(self, aliases=tuple(names[self.name]), adapters=adapters)

    def adapter(self, name: str) -> AdapterOffer | None:
        """What answers to a name beside the model itself; None for the model's own names."""
        return next((one for one in self.adapters if name in one.names), None)


@dataclass(frozen=True)
class Served:
    """An open model, as one request asks it: with one of its adapters, or as it is."""

    model: OpenModel
    thinking: ThinkingChoice = False  # where a request says nothing
    adapter: str | None = None

    @property
    def context_tokens(self) -> int:
        """The longest conversation it can hold."""
        return self.model.engine.max_sequence_tokens

    def raw_ids(self, prompt: str) -> list[int]:
        """A prompt as it is, without a chat template: the token that begins texts, if any, and its own."""
        bos = self.model.spec.tokens.bos
        return [*([] if bos is None else [bos]), *self.model.tokenizer.encode(prompt)]

    def stream(self, request: Request, *, salt: bytes, client: bytes) -> Stream:
        """Session.stream, with this adapter."""
        return self.model.session.stream(replace(request, adapter=self.adapter), salt=salt, client=client)

    def continuation(
        self, token_ids: Listing[int], sampling: SamplingParams, *, salt: bytes, client: bytes
    ) -> Stream:
        """Session.continuation, with this adapter."""
        session = self.model.session
        return session.continuation(token_ids, sampling, salt=salt, client=client, adapter=self.adapter)

    def embedding(self, text: str | Listing[int], *, salt: bytes, client: bytes) -> Pooling:
        """Session.embedding, with this adapter."""
        return self.model.session.embedding(text, salt=salt, client=client, adapter=self.adapter)
