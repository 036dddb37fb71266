"""Conversations: which turns follow each other, with which tools, thinking on or off.

Most are packed: many independent questions after one system turn, so that the declarations' cost is
shared and long context is learned on the way. Thoughts of earlier turns are gone from a real history,
so those conversations train their last turn only. Neighbours: serial.py writes what is decided here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta

from corpus.arithmetic import arithmetic
from corpus.calendar_talk import date_question
from corpus.followups import follow, remark
from corpus.grammar import Banks, NoWordingError, Style
from corpus.measures import conversion
from corpus.serial import Encoded, Serializer
from corpus.talk import Memory, about, beyond, chat, recall, tell
from corpus.turn import Turn
from gemstead.agent.tools import BUILT_IN
from gemstead.types import Tool

ROW_TOKENS = 1536  # a document must fit train.py's row
_INTENTS = {
    "arithmetic": 37,
    "units": 12,
    "dates": 21,
    "about": 12,
    "chat": 7,
    "beyond": 6,
    "memory": 5,
}
_KINDS = {"packed": 52, "packed_thinking": 32, "last_thinking": 8, "system": 4, "few_tools": 4}
_LACKING = {"calculator": "no_calculator", "convert_units": "no_units", "date_math": "no_dates"}


@dataclass
class Conversation:
    """Turns and how they are framed; `first_trained` is the first turn that carries loss."""

    turns: list[Turn]
    tools: tuple[Tool, ...] = BUILT_IN
    thinking: bool = False
    system: str = ""
    keep_thoughts: bool = True
    first_trained: int = 0


class Conversations:
    """An endless, seeded source of conversations from the trained, held-out or all wordings."""

    def __init__(self, part: str, seed: int, today: date | None = None) -> None:
        self.banks = Banks.load(part)
        self.held = part == "held"
        self.rng = random.Random(f"{part} {seed}")
        self.today = today

    def draw(self, serializer: Serializer | None = None, row_tokens: int = ROW_TOKENS) -> Conversation:
        """One conversation; with a serializer, packed ones stop in time to fit a row."""
        kind = self.rng.choices(list(_KINDS), list(_KINDS.values()))[0]
        tools, system = BUILT_IN, ""
        if kind == "few_tools":
            tools = tuple(t for t in BUILT_IN if self.rng.random() < 0.4)
        if kind == "system" or (kind != "packed" and self.rng.random() < 0.08):
            system = self.banks.pick("system_texts", self.rng)
        thinking = "thinking" in kind or (kind in ("system", "few_tools") and self.rng.random() < 0.3)
        if kind == "last_thinking":
            turns = self.turns(self.rng.choice([1, 1, 2, 3]), tools=tools)
            return Conversation(turns, tools, True, system, False, len(turns) - 1)
        most = 60 if tools else 6
        if serializer is None:
            return Conversation(self.turns(most, tools=tools), tools, thinking, system)
        # The declarations cost 274 tokens of each: most rows are filled, some are short as real talks are.
        length = row_tokens if self.rng.random() < 0.6 else self.rng.randint(row_tokens // 3, row_tokens)
        room = length - len(serializer.system(system, tools, thinking).ids)
        turns = self.turns(
            most, tools=tools, room=room, length=lambda t: len(serializer.turn(t, thinking).ids)
        )
        return Conversation(turns, tools, thinking, system)

    def turns(
        self,
        most: int,
        *,
        tools: tuple[Tool, ...] = BUILT_IN,
        length: Callable[[Turn], int] | None = None,
        room: int = 0,
    ) -> list[Turn]:
        """Up to `most` finished turns of one person."""
        today = self.today or date(2024, 1, 1) + timedelta(days=self.rng.randrange(2500))
        style, memory, turns = Style.draw(self.rng), Memory(), list[Turn]()
        used = 0
        while len(turns) < most:
            if self.rng.random() < 0.25:
                style = Style.draw(self.rng)
            try:
                turn = self._next(turns, style, memory, today).finish(today)
            except NoWordingError:
                continue
            turn = self._without_tool(turn, tools)
            used += length(turn) if length else 0
            if length and used > room and turns:
                break
            turns.append(turn)
        return turns

    def _next(self, turns: list[Turn], style: Style, memory: Memory, today: date) -> Turn:
        rng, banks = self.rng, self.banks
        if turns and turns[-1].calls and rng.random() < 0.20:
            made = follow(banks, turns[-1], rng, style, self.held)
            if made is not None:
                return made
        if turns and rng.random() < 0.03:
            return remark(banks, turns[-1], rng, style)
        if memory.facts and rng.random() < 0.22:
            return recall(banks, rng, style, memory, rng.choice(list(memory.facts)))
        intent = rng.choices(list(_INTENTS), list(_INTENTS.values()))[0]
        return self._fresh(intent, style, memory, today)

    def _fresh(self, intent: str, style: Style, memory: Memory, today: date) -> Turn:
        rng, banks = self.rng, self.banks
        if intent == "arithmetic":
            return arithmetic(banks, rng, style, self.held)
        if intent == "units":
            return conversion(banks, rng, style, self.held)
        if intent == "dates":
            return date_question(banks, rng, style, today, self.held)
        if intent == "memory":
            asks = rng.random() < 0.15
            return recall(banks, rng, style, memory) if asks else tell(banks, rng, style, memory, self.held)
        return {"about": about, "chat": chat, "beyond": beyond}[intent](banks, rng, style)

    def _without_tool(self, turn: Turn, tools: tuple[Tool, ...]) -> Turn:
        """A question whose tool is not on offer is answered with what is missing."""
        offered = {tool.name for tool in tools}
        missing = next((c.name for c in turn.calls if c.name not in offered), None)
        if missing is None:
            return turn
        answer = self.banks[_LACKING[missing]].answers[0]
        return replace(
            turn,
            calls=[],
            facts={},
            answer=answer,
            thought=f"I would need {missing}, which I don't have here.",
        )


def encode(conversation: Conversation, serializer: Serializer) -> Encoded:
    """The whole conversation as ids and loss mask."""
    out = serializer.system(conversation.system, conversation.tools, conversation.thinking)
    for number, turn in enumerate(conversation.turns):
        last = number == len(conversation.turns) - 1
        thoughts = conversation.keep_thoughts or last
        piece = serializer.turn(turn, conversation.thinking, thoughts)
        out.extend(piece, learned=number >= conversation.first_trained)
    return out
