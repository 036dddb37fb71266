"""The straight line: one Request in, its Events out. The only module that knows all stages.

Renders, encodes, submits, steps the engine while it waits, parses, holds back stop strings, counts.
Runs no tools: a tool call leaves as an event. Refuses a request before its first event (InputError,
CapacityError); after that every stream ends in exactly one Done or Failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field

import numpy as np

from gemstead.backend.base import Floats
from gemstead.engine.constraint import Constraint
from gemstead.engine.engine import Engine
from gemstead.engine.grammar import GrammarVocabulary, Turn, TurnRules, check_grammar
from gemstead.engine.repeats import Repeats
from gemstead.engine.sequence import Accepted, Sequence
from gemstead.engine.thoughts import ThoughtRules, Thoughts
from gemstead.errors import InputError
from gemstead.text.answers import answer_grammar
from gemstead.text.grammar import call_grammar, loosened
from gemstead.text.parser import Parser
from gemstead.text.template import NEWEST, render
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import (
    Cause,
    Done,
    Event,
    Failed,
    FinishReason,
    Request,
    SamplingParams,
    TextDelta,
    Thinking,
    TokenLogprob,
    Tool,
    ToolCallEvent,
    Usage,
)


class StopStrings:
    """Visible text on its way out, less any stop string and all that follows it.

    Text that may be the beginning of a stop string is held back until it is certain, so the result
    does not depend on how the text was cut: the stop string that is complete first wins.
    """

    def __init__(self, stops: Listing[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found: str | None = None  # the stop string that ended the text

    @property
    def is_stopped(self) -> bool:
        """Whether one came."""
        return self.found is not None

    def feed(self, text: str) -> str:
        """The text that may go out now; after a stop string, nothing."""
        if self.is_stopped:
            return ""
        text = self._held + text
        ends = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            _, at, self.found = min(ends)
            self._held = ""
            return text[:at]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back for nothing."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins, short of all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


@dataclass
class _Reader:
    """From accepted tokens to events, remembering what the end needs to know."""

    parser: Parser
    stops: StopStrings
    repeats: Repeats
    num_tokens: int = 0
    cycle: int | None = None  # the length of the loop in which the output was caught
    has_text: bool = False
    calls: list[str] = field(default_factory=list)
    reasoning_tokens: int = 0
    logprobs: list[TokenLogprob] = field(default_factory=list)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string or a loop ended the answer."""
        return self.stops.is_stopped or self.cycle is not None

    def feed(self, accepted: Accepted) -> Iterator[Event]:
        """The events of one token."""
        was_thinking = self.parser.is_thinking
        events = self.parser.feed(accepted.token_id)
        self.cycle = self.repeats.feed(accepted.token_id)
        self.reasoning_tokens += was_thinking
        if accepted.logprob is not None and not was_thinking and not self.parser.is_thinking:
            self.logprobs.append(accepted.logprob)
        yield from self._out(events)

    def finish(self) -> Iterator[Event]:
        """What parser and stop strings still held."""
        yield from self._out(self.parser.finish())
        yield from self._text(self.stops.finish())

    def _out(self, events: list[Event]) -> Iterator[Event]:
        for event in events:
            if self.stops.is_stopped:
                return
            if isinstance(event, TextDelta):
                yield from self._text(self.stops.feed(event.text))
                continue
            if isinstance(event, ToolCallEvent):
                self.calls.append(event.call.name)
                self.logprobs.clear()  # those of the call: log-probabilities belong to visible text
            yield event

    def _text(self, text: str) -> Iterator[Event]:
        if text:
            self.has_text = self.has_text or not text.isspace()
            yield TextDelta(text, tuple(self.logprobs))
            self.logprobs.clear()


class _UnderWay:
    """One sequence in the engine; dropping this cancels it."""

    def __init__(self, engine: Engine, sequence: Sequence) -> None:
        self._engine, self._sequence = engine, sequence
        self._is_over = False  # its terminal event was made, or it was closed

    @property
    def prompt_tokens(self) -> int:
        """How long the prompt is."""
        return self._sequence.prompt_tokens

    def cancel(self) -> None:
        """Stop generating, from any thread: pages return, and the next event is its Done."""
        self._engine.cancel(self._sequence)

    def __del__(self) -> None:
        self.cancel()


class Stream(_UnderWay, Iterator[Event]):
    """The events of one request. Work happens in whoever iterates; dropping the stream cancels it."""

    def __init__(self, engine: Engine, sequence: Sequence, reader: _Reader) -> None:
        super().__init__(engine, sequence)
        self._reader = reader
        self._ready: deque[Event] = deque()

    def __next__(self) -> Event:
        while not self._ready:
            if self._is_over:
                raise StopIteration
            try:
                self._engine.wait(self._sequence)
            except Exception as error:  # a bug of ours: still one terminal event
                self._end(Failed(error, _usage(self._sequence, self._reader)))
            self._advance()
        return self._ready.popleft()

    def poll(self) -> list[Event]:
        """The events for which no step is needed, for a caller that sees to the engine's steps itself."""
        while not self._is_over and (self._sequence.outputs or self._sequence.is_finished):
            self._advance()
        events = list(self._ready)
        self._ready.clear()
        return events

    def close(self) -> None:
        """Stop generating; no event follows."""
        self._is_over = True
        self._ready.clear()
        self.cancel()

    def _advance(self) -> None:
        """The events of one more token, or the end."""
        if self._is_over:
            return
        sequence, reader = self._sequence, self._reader
        try:
            if sequence.finish_reason != "cancelled" and sequence.outputs:
                accepted = sequence.outputs.popleft()
                reader.num_tokens += 1
                if accepted.token_id not in sequence.eos_ids:
                    self._ready.extend(reader.feed(accepted))
                if not reader.is_stopped:
                    return
            if sequence.finish_reason != "cancelled":
                self._ready.extend(reader.finish())
            self._end(_terminal(sequence, reader))
        except Exception as error:  # a bug of ours, or a backend beyond repair: still one terminal event
            self._end(Failed(error, _usage(sequence, reader)))

    def _end(self, event: Done | Failed) -> None:
        if not self._is_over:
            self._is_over = True
            self._ready.append(event)
            # After a stop string, a loop or an error; otherwise it has ended.
            self._engine.cancel(self._sequence)


class Pooling(_UnderWay):
    """One text's embedding under way: poll() and cancel() as of a Stream, then `vector`."""

    @property
    def vector(self) -> Floats:
        """The mean of the final hidden states, at length 1; whole once poll() gave a Done."""
        pooled = self._sequence.pooled
        assert pooled is not None
        vector: Floats = (pooled / (np.linalg.norm(pooled) or 1.0)).astype(np.float32)
        return vector

    def poll(self) -> list[Event]:
        """Its one event, once it is there."""
        sequence = self._sequence
        if self._is_over or not sequence.is_finished:
            return []
        self._is_over = True
        usage = Usage(prompt_tokens=sequence.prompt_tokens)
        if sequence.error is not None:
            return [Failed(sequence.error, usage)]
        is_cut = sequence.finish_reason == "cancelled"
        return [Done("cancelled" if is_cut else "stop", usage)]  # no token was wanted of it

    def wait(self) -> None:
        """Until it is whole; what went wrong is raised."""
        self._engine.wait(self._sequence, until_finished=True)
        if self._sequence.error is not None:
            raise self._sequence.error


class Session:
    """Requests over one engine and one tokenizer. Any number of streams, from any threads."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, *, generation: str = NEWEST) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._generation = generation
        self._vocabulary = vocabulary_of(tokenizer, engine.spec.vocab_size, engine.spec.tokens.eos)

    def prompt_ids(self, request: Request) -> tuple[list[int], bool]:
        """The ids of the prompt, and whether it ends inside a thought. InputError as of stream()."""
        thinking = Thinking.of(request.thinking)
        prompt = render(
            request.messages,
            () if request.tool_choice == "none" else request.tools,
            thinking=thinking.is_on,
            generation=self._generation,
            size_class=self._engine.spec.size_class,
            corrected=True,
        )
        if prompt.media:
            kinds = ", ".join(sorted({slot.part.kind for slot in prompt.media}))
            raise InputError(
                f"the conversation holds {kinds}; this model is open for text only: leave it out"
            )
        return prompt.encode(self._tokenizer), prompt.opens_thought

    def stream(
        self,
        request: Request,
        *,
        constraint: Constraint | None = None,
        salt: bytes = b"",
        client: bytes = b"",
    ) -> Stream:
        """Start a request. InputError and CapacityError come from here, everything later is an event.

        Requests with different `salt` share nothing that was read of prompts, so that none can tell from
        its speed what another one asked. Those of different `client` take turns.
        """
        thinking = Thinking.of(request.thinking)
        ids, in_thought = self.prompt_ids(request)
        turn = None if constraint is not None else self._turn(request, thinking, in_thought=in_thought)
        if constraint is None:
            room = self._engine.max_sequence_tokens - len(ids)
            asked = request.sampling.max_tokens
            limit = room if asked is None else min(room, asked)
            constraint = self._thoughts(thinking, limit, turn, in_thought=in_thought)
        # Under its rules no call can turn out malformed, so the parser may give its pieces away at once.
        parser = Parser(self._tokenizer, in_thought=in_thought, constrained_calls=turn is not None)
        sequence = self._engine.submit(
            ids,
            request.sampling,
            constraint=constraint,
            salt=salt,
            client=client,
            adapter=request.adapter,
        )
        return self._read(sequence, request.sampling, parser)

    def continuation(
        self,
        token_ids: Listing[int],
        sampling: SamplingParams,
        *,
        salt: bytes = b"",
        client: bytes = b"",
        adapter: str | None = None,
    ) -> Stream:
        """Go on with token ids as they are: no template, no tools, no rules. Errors as of stream()."""
        sequence = self._engine.submit(token_ids, sampling, salt=salt, client=client, adapter=adapter)
        return self._read(sequence, sampling, Parser(self._tokenizer))

    def embedding(
        self,
        text: str | Listing[int],
        *,
        salt: bytes = b"",
        client: bytes = b"",
        adapter: str | None = None,
    ) -> Pooling:
        """Start the embedding of a text, or of token ids. Errors as of stream().

        The token that begins texts is put before either, where the model has one.
        """
        ids = self._tokenizer.encode(text) if isinstance(text, str) else list(text)
        if not ids:
            raise InputError("there is nothing to embed in an empty text; leave it out")
        bos = self._engine.spec.tokens.bos
        if bos is not None and ids[0] != bos:
            ids = [bos, *ids]
        none = SamplingParams(max_tokens=0)
        sequence = self._engine.submit(ids, none, salt=salt, client=client, adapter=adapter, collect="pooled")
        return Pooling(self._engine, sequence)

    def _read(self, sequence: Sequence, sampling: SamplingParams, parser: Parser) -> Stream:
        stops, repeats = StopStrings(sampling.stop), Repeats(sampling.loop_guard)
        return Stream(self._engine, sequence, _Reader(parser, stops, repeats))

    def _thoughts(
        self, thinking: Thinking, limit: int, turn: Turn | None, *, in_thought: bool
    ) -> Constraint | None:
        """The limits of thought around the rules of the turn; a vocabulary without channels needs none."""
        control, encode = self._tokenizer.control, self._tokenizer.encode
        if control.channel_open is None or control.channel_close is None:
            return turn
        rules = ThoughtRules(
            opening=control.channel_open,
            closing=control.channel_close,
            call_opening=control.call_open,
            call_closing=control.call_close,
            label=tuple(encode("thought\n")),
            newline=tuple(encode("\n")),
            limit=limit,
            reserve=thinking.kept(limit),
            budget=thinking.budget,
        )
        return Thoughts(rules, self._engine.spec.vocab_size, turn, in_thought=in_thought)

    def _turn(self, request: Request, thinking: Thinking, *, in_thought: bool) -> Turn | None:
        """The rules of the turn; None where everything goes."""
        choice, control = request.tool_choice, self._tokenizer.control
        names = [tool.name for tool in request.tools]
        if choice not in ("auto", "none", "required", *names):
            raise InputError(
                f"tool_choice {choice!r} is not a tool on offer; allowed are auto, none, required"
                + "".join(f", {name}" for name in names)
            )
        if choice == "required" and not names:
            raise InputError("tool_choice is required, but no tool is on offer; give tools, or choose auto")
        if request.output is None and (not names or (choice == "auto" and not request.constrain)):
            return None
        if control.call_open is None or control.call_close is None:
            return None  # a vocabulary that knows no calls: nothing to guard
        offered = [t for t in request.tools if choice != "none" and choice in ("auto", "required", t.name)]
        call = self._calls(offered) if offered else None
        answer = None if request.output is None else answer_grammar(request.output.kind, request.output.value)
        if answer is not None:
            check_grammar(answer, "the output format")
        rules = TurnRules(
            opening=control.call_open,
            closing=control.call_close,
            call=call,
            required=bool(offered) and choice != "auto",
            parallel=request.parallel_tool_calls,
            answer=answer,
            thought_open=control.channel_open if thinking.is_on else None,
            thought_close=control.channel_close,
        )
        return Turn(self._vocabulary, rules, in_thought=in_thought)

    def _calls(self, tools: list[Tool]) -> str:
        """The grammar of a call of one of them, looser for tools that are not strict."""

        def grammar_of(some: list[Tool]) -> str:
            grammar = call_grammar(some, self._tokenizer.control)
            check_grammar(grammar, "a tool's schema")
            return grammar

        def can_hold(tool: Tool) -> bool:
            try:
                return bool(grammar_of([tool]))
            except InputError:
                return False

        try:
            return grammar_of(tools)
        except InputError:
            if all(tool.strict for tool in tools):
                raise
            return grammar_of([tool if tool.strict else loosened(tool, can_hold) for tool in tools])


def vocabulary_of(tokenizer: Tokenizer, size: int, eos_ids: Iterable[int]) -> GrammarVocabulary:
    """The tokenizer as grammars see it: what is no plain piece may not stand inside text.

    `size` is the model's, which may count ids that the tokenizer does not know.
    """
    known = tokenizer.vocab_size

    def tokens() -> list[bytes]:
        return [tokenizer.token_bytes(i) if i < known else b"" for i in range(size)]

    special = (i for i in range(size) if not tokenizer.is_plain(i))
    return GrammarVocabulary(size, tokens, special, eos_ids, tokenizer.encode)


def _terminal(sequence: Sequence, reader: _Reader) -> Done | Failed:
    usage = _usage(sequence, reader)
    if sequence.error is not None:
        return Failed(sequence.error, usage)
    reason: FinishReason = sequence.finish_reason or "stop"
    if reader.stops.is_stopped:
        reason = "stop"
    elif reader.cycle is not None:
        reason = "length"
    elif reason == "stop" and reader.calls:
        reason = "tool_calls"
    return Done(reason, usage, _cause(reason, reader), reader.stops.found)


def _cause(reason: FinishReason, reader: _Reader) -> Cause | None:
    """Why there is no visible text, or why we ended the answer; None for any other answer."""
    count = reader.num_tokens
    if reader.cycle is not None and not reader.stops.is_stopped:
        return Cause(
            "token_loop",
            f"the model repeated {_tokens(reader.cycle)} over and over and was stopped after {count}",
        )
    if reader.has_text:
        return None
    if reason == "cancelled":
        return Cause("cancelled", "cancelled before any text")
    if reader.stops.is_stopped:
        return Cause("stop_string", "the answer began with a stop string")
    if reader.calls:
        return Cause("tool_calls", f"the model called {', '.join(reader.calls)} instead of answering")
    if reason == "length" and count == 0:
        return Cause("no_tokens_allowed", "no token was allowed: max_tokens is 0")
    if reason == "length" and reader.reasoning_tokens:
        spent = f"{reader.reasoning_tokens} of {count} tokens were spent thinking"
        return Cause("spent_thinking", f"{spent}; allow more max_tokens, or turn thinking off")
    if reason == "length":
        return Cause(
            "spent_without_text", f"all {count} tokens were spent without text; allow more max_tokens"
        )
    if reader.reasoning_tokens:
        return Cause("ended_after_thinking", "the model ended its turn without text after thinking")
    return Cause("ended_at_once", "the model ended its turn without text")


def _tokens(count: int) -> str:
    return "one token" if count == 1 else f"the same {count} tokens"


def _usage(sequence: Sequence, reader: _Reader) -> Usage:
    started, first, last = sequence.started_s, sequence.first_token_s, sequence.last_token_s
    return Usage(
        prompt_tokens=sequence.prompt_tokens,
        cached_tokens=sequence.cached_tokens,
        completion_tokens=reader.num_tokens,
        reasoning_tokens=reader.reasoning_tokens,
        drafted_tokens=sequence.drafted_tokens,
        accepted_tokens=sequence.accepted_tokens,
        prefill_s=0.0 if started is None or first is None else first - started,
        decode_s=0.0 if first is None or last is None else last - first,
    )
