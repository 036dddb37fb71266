"""A model, opened: the public face. `open` puts store, backend, engine, tokenizer and session together.

Decides nothing the parts below decide; it turns keywords into their types and says what is missing.
A model without a tokenizer still gives logits and token ids. Above: cli, server, a person's script.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Listing
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from gemstead import pebble
from gemstead.agent.loop import MAX_SAME_CALLS, run_turns
from gemstead.agent.tools import BUILT_IN
from gemstead.backend import open_backend, why_slow
from gemstead.backend.base import Backend, Capabilities, Floats
from gemstead.backend.native.vocabulary import native_cutter
from gemstead.engine.draft import Drafter, MtpDrafter, NgramDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions, EngineStats
from gemstead.engine.sequence import Sequence
from gemstead.errors import ConfigError, InputError, WeightsError
from gemstead.hub.names import looks_like_name
from gemstead.machine.memory import kv_ceiling, missing_bytes
from gemstead.session import Session
from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.text.template import NEWEST, recognise
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import (
    Done,
    Event,
    Failed,
    Message,
    OutputFormat,
    Request,
    SamplingParams,
    TextDelta,
    ThinkingChoice,
    Tool,
    ToolCallEvent,
)
from gemstead.weights.adapter import Adapter, open_adapter
from gemstead.weights.fingerprint import fingerprint
from gemstead.weights.mapped import Closing
from gemstead.weights.store import Store, open_store

EMBEDDED = "pebble"
_PAGE_TOKENS = EngineOptions().page_tokens
_SIZE = re.compile(r"([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_SAMPLING = tuple(f.name for f in fields(SamplingParams))
# A vocabulary of at most this many tokens is built while opening, so that its faults are told then. Gemma's
# own costs 2 s and 300 MB (measured), and who works on ids never needs it: it waits until text is.
_EAGER_TOKENS = 1 << 14


def open(  # noqa: A001 (the public name is gemstead.open)
    path: str | Path = EMBEDDED,
    *,
    backend: str = "auto",
    threads: int | None = None,
    drafter: str | Path | None = None,
    memory: int | str | Callable[[Capabilities], int] | None = None,
    context: int | None = None,
    kv: str = "f16",
    prefix_cache_dir: str | Path | None = None,
    adapters: Mapping[str, str | Path] | None = None,
) -> Model:
    """Open a model: "pebble" (the embedded one), a GGUF file, a Hugging Face-style folder, or the name
    of a model that is on this machine, such as "e2b".

    backend is "auto", "native", "reference" or "torch". drafter is None or "none", "ngram", or the path
    of an assistant checkpoint. memory is the ceiling for K/V ("2GB" or bytes; None: half of what is free
    beside the weights, two whole contexts at most; or a function of the backend's needs); context the
    longest conversation in tokens; kv is "f16" or, on the native backend, "q8_0": half the memory, a little
    less exact.
    prefix_cache_dir: keep what was read of prompts in this folder, so that it is not read again after a
    restart; it then holds traces of the conversations.
    adapters: LoRA adapters by name, folders as PEFT saves them; chat(..., adapter="name") answers with one.
    """
    guesser, drafter_path = _drafter(drafter)
    ceiling = _ceiling(memory, context)
    if context is not None and (not isinstance(context, int) or context < 1):
        raise ConfigError(f"context = {context!r} is not a number of tokens; give 1 or more, or None")
    parts: list[Any] = []  # whatever must be closed, were a later part to fail
    try:
        store = open_store(_found(path))
        parts.append(store)
        drafter_store = None if drafter_path is None else open_store(_found(drafter_path))
        if drafter_store is not None:
            parts.append(drafter_store)
        spec = _check_kinds(store, drafter_store)
        with ExitStack() as files:
            opened = {
                name: files.enter_context(open_adapter(Path(folder).expanduser(), spec))
                for name, folder in _named(adapters).items()
            }
            computing = open_backend(backend, store, drafter_store, threads, kv, opened)
        parts.append(computing)
        can = computing.capabilities()
        options = EngineOptions(
            memory_bytes=ceiling(can),
            context_tokens=context,
            prefix_folder=_prefix_folder(prefix_cache_dir, store, can),
        )
        model = Model(store, computing, Engine(computing, options, guesser), drafter_store)
        notes = [_about_template(store), _about_encoders(opened), _about_memory(can)]
        notes.append(_about_context(context, spec.max_position_embeddings))
        if backend == "auto" and (reason := why_slow(store)) is not None:
            notes.append(f"the fast engine {reason}; computing with numpy, which is slow")
        model.note = "; ".join(note for note in notes if note) or None
        return model
    except BaseException:
        for part in reversed(parts):
            part.close()
        raise


class Model(Closing):
    """An open model. Safe to use from several threads at once; close it, or use it in `with`."""

    def __init__(self, store: Store, backend: Backend, engine: Engine, drafter: Store | None = None) -> None:
        self.store = store
        self.sampling = default_sampling(store)
        self.engine = engine
        self._backend = backend
        self._drafter = drafter
        self._text: tuple[Tokenizer, Session] | None = None
        self._building = threading.Lock()
        self.note: str | None = None  # what the person should know about how it was opened
        self._is_open = True
        if engine.spec.vocab_size <= _EAGER_TOKENS and store.has_tokenizer:
            self._with_text("its tokenizer is built")

    @property
    def spec(self) -> ModelSpec:
        """What the model is: sizes, layers, token ids."""
        return self.engine.spec

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back. ConfigError, saying which file is missing, for a model without."""
        return self._with_text("its tokenizer was asked for")[0]

    @property
    def session(self) -> Session:
        """Requests to events: what chat() and a server stand on."""
        return self._with_text("a conversation was asked for")[1]

    def stats(self) -> EngineStats:
        """What the engine has done and the memory it holds, against its ceiling."""
        return self.engine.stats()

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters it was opened with."""
        return tuple(self.engine.adapters)

    def logits(self, token_ids: Listing[int], *, adapter: str | None = None) -> Floats:
        """float32 [T, V]: after each token, the scores of the next, after the final softcap.

        T * V * 4 bytes of memory: a gigabyte per thousand tokens of a 262,144-token vocabulary.
        """
        self._check_open()
        sequence = self.engine.submit(
            token_ids, SamplingParams(max_tokens=0), collect="scores", adapter=adapter
        )
        self._run(sequence)
        scores: Floats = np.concatenate(sequence.scores or [])
        return scores

    def generate(
        self,
        token_ids: Listing[int],
        sampling: SamplingParams | None = None,
        *,
        adapter: str | None = None,
    ) -> list[int]:
        """The ids the model adds, up to max_tokens, the context, or an ending id, which is included.

        Without `sampling` the model's own defaults hold (`Model.sampling`). No loop guard: that is chat()'s.
        """
        self._check_open()
        sampling = self.sampling if sampling is None else sampling
        if sampling.stop:
            raise InputError(
                "generate() works on ids and knows no stop strings; use chat(), or leave stop out"
            )
        sequence = self.engine.submit(token_ids, sampling, adapter=adapter)
        self._run(sequence)
        return [accepted.token_id for accepted in sequence.outputs]

    def chat(
        self,
        messages: Listing[Message],
        tools: Iterable[Tool] = (),
        *,
        thinking: ThinkingChoice = False,
        tool_choice: str = "auto",
        constrain: bool = True,
        output: OutputFormat | None = None,
        adapter: str | None = None,
        **sampling: Any,
    ) -> Iterator[Event]:
        """The events of the next assistant message: text, thoughts, tool calls, then one Done or Failed.

        thinking is True, False, the most tokens of thought, an effort ("none", "minimal", "low", "medium",
        "high") or a Thinking; part of max_tokens and of the context is always kept for the answer.
        tool_choice is "auto", "none", "required" or a tool's name. Calls follow their tools' schemas
        unless constrain is False; `output` asks the visible text to fit a JSON Schema, regex, Lark
        grammar or list of choices. InputError for a schema that cannot be guaranteed. `adapter` is the name
        of one the model was opened with; None is the model as it is.

        Keywords are the fields of SamplingParams: temperature, top_k, top_p, min_p, seed, max_tokens,
        stop, logprobs, repetition_penalty, presence_penalty, frequency_penalty, loop_guard; what is not
        given is as the model's files ask, or as Gemma 4's card does (`Model.sampling`). Runs no tools.
        """
        self._check_open()
        request = Request(
            messages=_checked(messages, Message, "messages"),
            tools=_checked(tools, Tool, "tools"),
            sampling=sampling_params(sampling, self.sampling),
            thinking=thinking,
            tool_choice=tool_choice,
            constrain=constrain,
            output=output,
            adapter=adapter,
        )
        if not request.messages:
            raise InputError("messages is empty; give at least one, such as [Message.user('Hello')]")
        return self.session.stream(request)

    def ask(
        self,
        text: str,
        *,
        tools: Iterable[Tool] | None = None,
        thinking: ThinkingChoice = False,
        max_same_calls: int = MAX_SAME_CALLS,
        adapter: str | None = None,
        **sampling: Any,
    ) -> str:
        """The answer to one question, tools run on the way (None: the built-in ones; (): none).

        `max_same_calls` equal calls in a row end it; 0: never.
        """
        offered = tuple(BUILT_IN if tools is None else tools)
        answer = ""
        turns = run_turns(
            lambda said: self.chat(said, offered, thinking=thinking, adapter=adapter, **sampling),
            [Message.user(text)],
            offered,
            max_same_calls=max_same_calls,
        )
        for event in turns:
            if isinstance(event, ToolCallEvent):
                answer = ""  # what came before a call is not the answer
            elif isinstance(event, TextDelta):
                answer += event.text
            elif isinstance(event, Failed):
                raise event.error
            elif isinstance(event, Done):
                break
        return answer

    def embed(self, texts: str | Listing[str], *, adapter: str | None = None) -> Floats:
        """float32 [n, hidden_size]: each text as the mean of its final hidden states, at length 1.

        Gemma 4 was trained to write, not to embed: texts that say the same lie closer than others, no more.
        """
        self._check_open()
        listed = [texts] if isinstance(texts, str) else list(texts)
        for text in listed:
            if not isinstance(text, str):
                raise InputError(f"a text to embed is of type {type(text).__name__}; give strings")
        pooling = [self.session.embedding(text, adapter=adapter) for text in listed]
        for one in pooling:
            one.wait()
        return np.array([one.vector for one in pooling], np.float32).reshape(-1, self.spec.hidden_size)

    def close(self) -> None:
        """End all requests and let go of weights and memory. Closing twice is fine."""
        if not self._is_open:
            return
        self._is_open = False
        self.engine.close()
        self._backend.close()
        for store in (self._drafter, self.store):
            if store is not None:
                store.close()

    def _run(self, sequence: Sequence) -> None:
        try:
            self.engine.wait(sequence, until_finished=True)
        finally:
            self.engine.cancel(sequence)
        if sequence.error is not None:
            raise sequence.error

    def _check_open(self) -> None:
        if not self._is_open:
            raise ConfigError(f"the model {self.spec.name} is closed; open it again")

    def _with_text(self, attempt: str) -> tuple[Tokenizer, Session]:
        """Tokenizer and session, built when first needed. WeightsError when the vocabulary is damaged."""
        with self._building:
            if self._text is None:
                self._check_open()
                tokenizer = tokenizer_of(self.store, self.spec)
                if tokenizer is None:
                    raise self._no_tokenizer(attempt)
                template = recognise(self.store.chat_template) if self.store.chat_template else None
                generation = template.generation if template is not None else NEWEST
                self._text = tokenizer, Session(self.engine, tokenizer, generation=generation)
            return self._text

    def _no_tokenizer(self, attempt: str) -> ConfigError:
        if self.store.kind == "gguf":
            missing = f"{self.store.path} holds no vocabulary (tokenizer.ggml.tokens)"
        else:
            folder = self.store.path if self.store.path.is_dir() else self.store.path.parent
            missing = f"{folder / 'tokenizer.json'} is missing"
        return ConfigError(f"{attempt}, but {missing}; logits() and generate() work on token ids without it")


def _about_template(store: Store) -> str | None:
    """A warning where the model's own chat template is none of Google's."""
    template = recognise(store.chat_template) if store.chat_template else None
    if template is None or template.known:
        return None
    return f"the model carries {template.name}; prompts follow Google's newest, {template.generation}"


def _about_context(asked: int | None, most: int) -> str | None:
    """A note where a longer conversation is asked for than the model can hold."""
    if asked is None or asked <= most:
        return None
    return f"a context of {asked:,} tokens was asked for; this model holds {most:,}"


def _about_memory(can: Capabilities) -> str | None:
    """A warning where the weights do not stay in memory: the system does not say so, it crawls."""
    missing = missing_bytes(can)
    if missing <= 0:
        return None
    return (
        f"the weights take {can.weights_bytes / 1e9:.1f} GB, {missing / 1e9:.1f} GB more than is free: they "
        "are read from the disk again for every token; gemstead plan says what fits"
    )


def _found(path: str | Path) -> str | Path:
    """Where a model is; a name that is no path is looked up among the models on this machine."""
    if not isinstance(path, (str, Path)) or not str(path).strip():
        raise ConfigError(f"{path!r} names no model; give {EMBEDDED!r}, a path, or a name such as 'e2b'")
    if path == EMBEDDED:
        return pebble.path()
    if isinstance(path, str) and looks_like_name(path) and not Path(path).exists():
        from gemstead.hub.local import resolve  # only who names a model pays

        return resolve(path).facts.path
    return path


def default_sampling(store: Store) -> SamplingParams:
    """How the model's files ask to be sampled, and Gemma 4's card where they say nothing."""
    try:
        return SamplingParams(**store.sampling)
    except InputError as error:
        raise WeightsError(f"{store.path} asks to be sampled in an impossible way: {error}") from error


def sampling_params(given: dict[str, Any], defaults: SamplingParams) -> SamplingParams:
    """SamplingParams from keywords over defaults; InputError naming what is unknown and what is allowed."""
    unknown = sorted(set(given) - set(_SAMPLING))
    if unknown:
        raise InputError(f"unknown sampling option {', '.join(unknown)}; allowed are {', '.join(_SAMPLING)}")
    stop = given.get("stop", ())
    stop = (stop,) if isinstance(stop, str) else tuple(stop or ())
    return replace(defaults, **{**given, "stop": stop})


def _ceiling(
    memory: int | str | Callable[[Capabilities], int] | None, context: int | None
) -> Callable[[Capabilities], int]:
    """The K/V ceiling from what the backend needs."""
    if callable(memory):
        return memory
    if memory is None:
        return lambda can: kv_ceiling(can, context)
    ceiling = _bytes(memory)
    return lambda _: ceiling


def _bytes(memory: int | str) -> int:
    """2_000_000_000, "2GB" or "1.5GiB" as bytes."""
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    match = _SIZE.fullmatch(memory.strip()) if isinstance(memory, str) else None
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f"memory = {memory!r} is not an amount of memory; write '2GB', '512MiB' or bytes")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " "))


def _drafter(name: str | Path | None) -> tuple[Drafter | None, str | Path | None]:
    """The drafter to run, and the checkpoint it needs."""
    if name is None or name == "none":
        return None, None
    if name == "ngram":
        return NgramDrafter(), None
    return MtpDrafter(), name


def _prefix_folder(parent: str | Path | None, store: Store, can: Capabilities) -> Path | None:
    """A folder below `parent` for the K/V of exactly this model, backend and size of pages."""
    if parent is None:
        return None
    name = fingerprint(store, "kv 1", can.name, str(can.kv_bytes_per_token), str(_PAGE_TOKENS))
    return Path(parent).expanduser() / name


def _named(adapters: Mapping[str, str | Path] | None) -> Mapping[str, str | Path]:
    """The adapters, when their names are names."""
    wanted = "give a mapping from names to folders, such as {'mine': './adapter'}"
    if adapters is not None and not isinstance(adapters, Mapping):
        raise ConfigError(f"adapters is of type {type(adapters).__name__}; {wanted}")
    for name in adapters or {}:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ConfigError(f"an adapter cannot be named {name!r}; {wanted}")
    return adapters or {}


def _about_encoders(adapters: Mapping[str, Adapter]) -> str | None:
    """A warning where an adapter also changes how images and sound are read."""
    names = [name for name, adapter in adapters.items() if adapter.passed_over]
    what = "is left out: only text is computed"
    return f"what {', '.join(names)} changes of the encoders for images and sound {what}" if names else None


def _check_kinds(store: Store, drafter: Store | None) -> ModelSpec:
    if not isinstance(store.spec, ModelSpec):
        raise ConfigError(f"{store.path} is a drafter, not a model; open its model and give it as drafter=")
    if drafter is not None and not isinstance(drafter.spec, DrafterSpec):
        raise ConfigError(
            f"{drafter.path} is a model, not a drafter; give an assistant checkpoint or 'ngram'"
        )
    return store.spec


def tokenizer_of(store: Store, spec: ModelSpec) -> Tokenizer | None:
    """The tokenizer of a model's files, None where they hold none; WeightsError when it does not fit."""
    vocabulary = store.vocabulary(in_place=True)
    try:
        if store.tokenizer_json is not None:
            tokenizer = Tokenizer.from_json(store.tokenizer_json, native_cutter)
        elif vocabulary is not None:
            arrays = vocabulary.tokens, vocabulary.types, vocabulary.merges
            tokenizer = Tokenizer.from_vocabulary(*arrays, native_cutter)
        else:
            return None
    except ConfigError as error:
        raise WeightsError(f"cannot use the text side of {store.path}: {error}") from error
    if tokenizer.vocab_size > spec.vocab_size:
        raise WeightsError(
            f"the tokenizer of {store.path} has {tokenizer.vocab_size:,} tokens, but the model knows only "
            f"{spec.vocab_size:,}; they do not belong together"
        )
    return tokenizer


def _checked(values: Iterable[Any], kind: type[Any], name: str) -> tuple[Any, ...]:
    """The values as a tuple; InputError for anything that is not of the kind."""
    wanted = f"give a list of gemstead.{kind.__name__}"
    if isinstance(values, (str, bytes, dict)) or not isinstance(values, Iterable):
        raise InputError(f"{name} is of type {type(values).__name__}; {wanted}")
    values = tuple(values)
    for i, value in enumerate(values):
        if not isinstance(value, kind):
            raise InputError(f"{name}[{i}] is of type {type(value).__name__}; {wanted}")
    return values
