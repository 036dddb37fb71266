"""Token ids in, events out: text, thoughts and tool calls, as far as each token makes them certain.

Decides on ids, never on spelling, so text that looks like a control token stays text. Loses nothing
and raises nothing: what is not Gemma's format comes out as text, with a ParseNote saying why.
Neighbours: session.py feeds it the engine's tokens; calls.py reads the inside of a call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from gemstead.text import control
from gemstead.text.calls import QUOTE_MARK, read_calls
from gemstead.text.control import CONTROL_TEXTS
from gemstead.text.fragments import CallFragments, json_text
from gemstead.text.tokenizer import Tokenizer
from gemstead.types import (
    Event,
    Json,
    ParseNote,
    TextDelta,
    ThoughtDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
)

_CONTROL = re.compile("|".join(re.escape(t) for t in sorted(CONTROL_TEXTS.values(), key=len, reverse=True)))
_LONGEST_CONTROL = max(map(len, CONTROL_TEXTS.values()))
_LABEL = "thought\n"
_TEXT_LABELS = ("response\n", "final\n", "answer\n")  # channels some fine-tunes invent for the answer
_ENDS = (control.TURN_CLOSE, control.EOS)


def new_call_id() -> str:
    """An id for a tool call, unique across conversations."""
    return f"call_{os.urandom(6).hex()}"


class Parser:
    """The state of reading one answer. `in_thought`: the prompt has already opened a thought.

    `constrained_calls`: calls were sampled under a grammar, so none can turn out malformed, and their
    fragments leave as they are written; otherwise they leave when the call has ended. `new_id` names
    the calls. Feed ids (needs a tokenizer) or raw text with the control tokens spelled out, not both;
    then finish() once.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        *,
        in_thought: bool = False,
        constrained_calls: bool = False,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self._tokenizer = tokenizer
        self._stream = tokenizer.stream() if tokenizer else None
        self._new_id = new_id
        self._events: list[Event] = []
        self._state = "thought" if in_thought else "text"
        self._label: str | None = None  # text after <|channel> while it may still become "thought\n"
        self._held: str | None = None if in_thought else ""  # text that may be a thought lacking <|channel>
        self._newline = False  # the newline that the template puts before <channel|>
        self._body: list[str] = []
        self._is_eager = constrained_calls
        self._fragments: CallFragments | None = None  # of the call that is being written
        self._num_calls = 0
        self._call_id = ""  # of the next call
        self._tail = ""  # raw text that may be the beginning of a spelled control token

    @property
    def is_thinking(self) -> bool:
        """Whether the next text token would belong to a thought."""
        return self._state == "thought"

    def feed(self, token_id: int) -> list[Event]:
        """The events this token makes certain."""
        if self._tokenizer is None or self._stream is None:
            raise TypeError("feed() needs a parser made with a tokenizer; use feed_text()")
        if self._tokenizer.is_special(token_id):
            self._text(self._stream.finish())
            self._control(self._tokenizer.piece(token_id))
        else:
            self._text(self._stream.feed(token_id))
        return self._take()

    def feed_text(self, text: str) -> list[Event]:
        """The same for raw output in which control tokens are spelled out, cut anywhere."""
        text = self._tail + text
        cut = _partial_control(text)
        self._tail, text = text[cut:], text[:cut]
        self._whole_text(text)
        return self._take()

    def finish(self) -> list[Event]:
        """The events of whatever was still held back. The parser is done after this."""
        rest = (self._stream.finish() if self._stream is not None else "") + self._tail
        self._tail = ""
        if self._state == "call":  # half a character, or half a token, is no piece of an argument
            self._body.append(rest)
        else:
            self._text(rest)
        if self._state == "call":
            self._end_call(closed=False)
        elif self._state == "thought":
            self._end_label(closed=False)
            if self._newline:
                self._events.append(ThoughtDelta("\n"))
        self._release()
        return self._take()

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _whole_text(self, text: str) -> None:
        at = 0
        for match in _CONTROL.finditer(text):
            self._text(text[at : match.start()])
            self._control(match[0])
            at = match.end()
        self._text(text[at:])

    def _note(self, message: str, text: str = "") -> None:
        self._events.append(ParseNote(message, text))

    # --- ordinary text, by state ---

    def _text(self, text: str) -> None:
        if not text:
            return
        if self._state == "call":
            self._call_text(text)
        elif self._state == "thought":
            if self._label is None:
                self._emit_thought(text)
            else:
                self._label += text
                self._decide_label()
        elif self._held is None:
            self._emit_text(text)
        else:
            self._held += text
            if not (_LABEL.startswith(self._held) or self._held.startswith(_LABEL)):
                self._release()

    def _emit_text(self, text: str) -> None:
        self._newline = False
        self._events.append(TextDelta(text))

    def _emit_thought(self, text: str) -> None:
        if self._newline:
            text = "\n" + text
        self._newline = text.endswith("\n")
        if self._newline:
            text = text[:-1]
        if text:
            self._events.append(ThoughtDelta(text))

    def _release(self) -> None:
        """Text was held because it might have been a thought; it is text."""
        held, self._held = self._held, None
        if held:
            self._emit_text(held)

    def _decide_label(self) -> None:
        """Whether what follows <|channel> is the label, another channel's name, or already the thought."""
        raw = self._label or ""
        label = raw.lstrip()
        if any(name.startswith(label) and name != label for name in (_LABEL, *_TEXT_LABELS)):
            return
        self._label = None
        if label.startswith(_LABEL):
            self._text(label[len(_LABEL) :])
            return
        for name in _TEXT_LABELS:
            if label.startswith(name):
                self._note(f"channel {name.strip()!r} taken for the answer", name)
                self._state, self._held = "text", None
                self._text(label[len(name) :])
                return
        self._note("a channel without the label 'thought' taken for a thought")
        self._emit_thought(raw)

    def _end_label(self, *, closed: bool) -> None:
        """The channel ends while its label is undecided: empty, or as much as there was."""
        label, self._label = self._label, None
        if label is None or label.strip() in ("", "thought"):
            return
        if not closed and any(name.startswith(label.lstrip()) for name in (_LABEL, *_TEXT_LABELS)):
            self._note("the output ends inside a channel's label", label)
            return
        self._note("a channel without the label 'thought' taken for a thought")
        self._emit_thought(label)

    # --- control tokens, by state ---

    def _control(self, token: str) -> None:
        if self._state == "call":
            self._control_in_call(token)
        elif token == control.CALL_OPEN:
            if self._state == "thought":
                self._end_label(closed=True)
                self._note("a call inside an unclosed thought")
            self._release()
            self._begin_call()
        elif token == control.CHANNEL_OPEN:
            if self._state == "thought":
                self._end_label(closed=True)
                self._note("a thought opened inside a thought")
            self._release()
            self._state, self._label = "thought", ""
        elif token == control.CHANNEL_CLOSE:
            self._close_channel()
        elif token in _ENDS or (token == control.RESPONSE_OPEN and self._state == "text"):
            self._release()
        elif token == control.QUOTE:
            self._note("a string delimiter outside of a call shown as a quotation mark", token)
            self._text('"')
        else:
            self._note("a control token out of place left out", token)

    def _close_channel(self) -> None:
        if self._state == "thought":
            self._end_label(closed=True)
        elif self._held is not None and self._held.startswith(_LABEL.strip()):
            self._note("a thought whose opening token is missing", self._held)
            thought, self._held = self._held[len(_LABEL) :], None
            if thought:
                self._emit_thought(thought)
        else:
            self._note("a thought closed that was not open", control.CHANNEL_CLOSE)
            self._release()
        self._state, self._held = "text", ""

    def _control_in_call(self, token: str) -> None:
        if token == control.QUOTE:
            self._call_text(QUOTE_MARK)
        elif token in (control.CALL_CLOSE, control.RESPONSE_OPEN):
            self._end_call(closed=True, ending=token)
        elif token == control.CALL_OPEN:
            self._end_call(closed=True)
            self._note("a call opened inside a call", token)
            self._begin_call()
        elif token in _ENDS:
            self._end_call(closed=False)
        else:
            self._note("a control token inside a call left out", token)

    # --- the inside of a call ---

    def _begin_call(self) -> None:
        self._state, self._fragments = "call", CallFragments() if self._is_eager else None

    def _call_text(self, text: str) -> None:
        self._body.append(text)
        if self._fragments is None:
            return
        was_named = self._fragments.name is not None
        more = self._fragments.feed(text)
        if self._fragments.name is not None:
            if not was_named:
                self._delta(self._fragments.name, "")
            if more:
                self._delta(self._fragments.name, more)

    def _delta(self, name: str, arguments_text: str) -> None:
        self._call_id = self._call_id or self._new_id()
        self._events.append(ToolCallDelta(self._num_calls, self._call_id, name, arguments_text))

    def _whole_call(self, name: str, arguments: dict[str, Json]) -> None:
        """A call has ended: what of it was not sent, and the call itself."""
        begun, self._fragments = self._fragments, None
        if begun is None or begun.name is None:
            self._delta(name, json_text(arguments))
        elif not begun.is_whole:
            self._delta(name, json_text(arguments).removeprefix(begun.sent))
        self._events.append(ToolCallEvent(ToolCall(name, arguments, self._call_id)))
        self._num_calls, self._call_id = self._num_calls + 1, ""

    def _end_call(self, *, closed: bool, ending: str = "") -> None:
        body = "".join(self._body)
        self._body.clear()
        self._state = "text"
        raw = control.CALL_OPEN + body.replace(QUOTE_MARK, control.QUOTE) + ending
        found = read_calls(body, closed=closed)
        for name, arguments in found.calls:
            self._whole_call(name, arguments)
        if self._call_id:  # its beginning was sent, its end never came
            self._num_calls, self._call_id = self._num_calls + 1, ""
        if found.error is not None:
            why = "cut off" if not closed else "malformed"
            self._note(f"a tool call is {why} and shown as text: {found.error}", raw)
            if found.rest:
                self._emit_text(found.rest.replace(QUOTE_MARK, '"'))
        elif found.guesses or not ending:
            guesses = [*found.guesses, *(() if ending else ["missing end of the call added"])]
            self._note("a tool call was repaired: " + "; ".join(guesses), raw)


def parse(raw: str, *, in_thought: bool = False, new_id: Callable[[], str] = new_call_id) -> list[Event]:
    """Events of a whole raw output with control tokens spelled out; adjacent deltas joined."""
    parser = Parser(in_thought=in_thought, new_id=new_id)
    return joined([*parser.feed_text(raw), *parser.finish()])


def parse_ids(
    token_ids: Iterable[int],
    tokenizer: Tokenizer,
    *,
    in_thought: bool = False,
    new_id: Callable[[], str] = new_call_id,
) -> list[Event]:
    """The same for a whole output as token ids: then text that spells a control token stays text."""
    parser = Parser(tokenizer, in_thought=in_thought, new_id=new_id)
    events = [event for token_id in token_ids for event in parser.feed(token_id)]
    return joined([*events, *parser.finish()])


def joined(events: Iterable[Event]) -> list[Event]:
    """The same events with runs of text, and runs of thought, made one, and calls without their pieces."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, ToolCallDelta):
            continue
        last = result[-1] if result else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            result[-1] = TextDelta(last.text + event.text, last.logprobs + event.logprobs)
        elif isinstance(event, ThoughtDelta) and isinstance(last, ThoughtDelta):
            result[-1] = ThoughtDelta(last.text + event.text)
        else:
            result.append(event)
    return result


def _partial_control(text: str) -> int:
    """Where the last `<` stands that may begin a control token not yet complete; else the end."""
    at = text.rfind("<", max(0, len(text) - _LONGEST_CONTROL + 1))
    if at < 0:
        return len(text)
    rest = text[at:]
    return at if any(t.startswith(rest) and t != rest for t in CONTROL_TEXTS.values()) else len(text)
