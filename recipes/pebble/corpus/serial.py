"""Turns as token ids with a loss mask, exactly as gemstead's template would render them.

Written for speed: system turns and frequent pieces are encoded once. tests/recipes compares it with
gemstead.text.template.render. Neighbours: conversation.py decides what to write, build_data.py saves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from corpus.turn import Bare, Call, Turn
from gemstead.text import control
from gemstead.text.template import render
from gemstead.types import Message, Tool

Encode = Callable[[str], list[int]]
Piece = tuple[str, bool, bool]  # text, is a control token, is the model's to write


@dataclass
class Encoded:
    """Ids and, for each, 1 where the model must learn to write it."""

    ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)

    def extend(self, other: Encoded, learned: bool = True) -> None:
        """Append; learned=False blanks the mask."""
        self.ids += other.ids
        self.mask += other.mask if learned else [0] * len(other.mask)


def pieces_of(turn: Turn, thinking: bool, thoughts: bool) -> list[Piece]:
    """A user turn and the model's turn; `thoughts` False leaves them out (an earlier turn's are gone)."""
    out: list[Piece] = [
        (control.TURN_OPEN, True, False),
        ("user\n", False, False),
        (turn.user, False, False),
        (control.TURN_CLOSE, True, False),
        ("\n", False, False),
        (control.TURN_OPEN, True, False),
        ("model\n", False, False),
    ]
    speaks = thinking and thoughts
    if speaks:
        out += _thought(turn.thought, opened_by_model=True)
    for call in turn.calls:
        out += _call(call)
    if turn.calls:
        out.append((control.RESPONSE_OPEN, True, True))
        for number, call in enumerate(turn.calls):
            out += [(control.RESPONSE_OPEN, True, False)] * bool(number)
            out += _response(call)
        if speaks:
            out += _thought("I have the result.", opened_by_model=False)
    out += [(turn.answer, False, True), (control.TURN_CLOSE, True, True), ("\n", False, False)]
    return out


def _thought(text: str, opened_by_model: bool) -> list[Piece]:
    return [
        (control.CHANNEL_OPEN, True, opened_by_model),
        ("thought\n", False, opened_by_model),
        (text + "\n", False, True),
        (control.CHANNEL_CLOSE, True, True),
    ]


def _call(call: Call) -> list[Piece]:
    out: list[Piece] = [(control.CALL_OPEN, True, True)]
    text = f"call:{call.name}{{"
    for number, key in enumerate(sorted(call.arguments)):
        value = call.arguments[key]
        text += f"{',' if number else ''}{key}:"
        if isinstance(value, Bare):
            text += value
        else:
            out += [
                (text, False, True),
                (control.QUOTE, True, True),
                (value, False, True),
                (control.QUOTE, True, True),
            ]
            text = ""
    return [*out, (text + "}", False, True), (control.CALL_CLOSE, True, True)]


def _response(call: Call) -> list[Piece]:
    return [
        (f"response:{call.name}{{value:", False, False),
        (control.QUOTE, True, False),
        (call.result, False, False),
        (control.QUOTE, True, False),
        ("}", False, False),
        (control.RESPONSE_CLOSE, True, False),
    ]


class Serializer:
    """Encodes turns and system turns with one vocabulary."""

    def __init__(self, encode: Encode, special: dict[str, int]) -> None:
        self._encode = encode
        self._special = special
        self._cache: dict[str, list[int]] = {}
        self._systems: dict[tuple[str, tuple[str, ...], bool], Encoded] = {}

    def system(self, text: str, tools: Sequence[Tool], thinking: bool) -> Encoded:
        """BOS and the system turn, if there is one."""
        key = (text, tuple(t.name + t.description for t in tools), thinking)
        if key not in self._systems:
            messages = [Message.system(text)] if text else []
            prompt = render(
                [*messages, Message.user("x")], tools, thinking=thinking, add_generation_prompt=False
            )
            pieces = [(p.text, p.is_control, False) for p in prompt.pieces]
            cut = max(i for i, p in enumerate(pieces) if p[0] == control.TURN_OPEN)
            self._systems[key] = self._write(pieces[:cut])
        found = self._systems[key]
        return Encoded(list(found.ids), list(found.mask))

    def turn(self, turn: Turn, thinking: bool, thoughts: bool = True) -> Encoded:
        """One exchange."""
        return self._write(pieces_of(turn, thinking, thoughts))

    def _write(self, pieces: Iterable[Piece]) -> Encoded:
        out = Encoded()
        run, learned = "", False
        for text, is_control, learn in [*pieces, ("", True, False)]:
            if not is_control and learn == learned:
                run += text
                continue
            if run:
                ids = self._ids(run)
                out.ids += ids
                out.mask += [int(learned)] * len(ids)
            run, learned = ("" if is_control else text), learn
            if is_control and text:
                out.ids.append(self._special[text])
                out.mask.append(int(learn))
        return out

    def _ids(self, text: str) -> list[int]:
        found = self._cache.get(text)
        if found is None:
            found = self._encode(text)
            if len(self._cache) < 20_000:
                self._cache[text] = found
        return found
