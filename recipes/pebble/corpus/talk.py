"""Talk without tools: gemstead itself, small talk, what is beyond pebble, what the person told it.

Answers stand in the banks and are short and fixed; facts the person tells are kept in a Memory and
asked back later. Neighbours: followups.py for remarks about the last answer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from corpus.grammar import Banks, Style, say
from corpus.turn import Turn

_REMEMBERED = {
    "name": "Your name is {x}.",
    "age": "You are {x} years old.",
    "city": "You live in {x}.",
    "pet": "Your pet is called {x}.",
    "like": "You like {x}.",
    "job": "You are a {x}.",
}
_NOTED = {
    "name": "Nice to meet you, {x}!",
    "age": "Noted: you are {x} years old.",
    "city": "Noted: you live in {x}.",
    "pet": "Noted: your pet is called {x}.",
    "like": "Noted: you like {x}.",
    "job": "Noted: you are a {x}.",
}
_SLOTS = (
    "place",
    "person",
    "topic",
    "animal",
    "food",
    "sport",
    "title",
    "object",
    "job",
    "noun",
    "verb",
    "adj",
)


@dataclass
class Memory:
    """What the person has said about themselves."""

    facts: dict[str, str] = field(default_factory=dict)


def about(banks: Banks, rng: random.Random, style: Style) -> Turn:
    """A question about gemstead or pebble."""
    section = rng.choice(banks.starting("about_"))
    text = say(banks, section.lines, {}, style, rng, extras=0.2)
    return Turn(
        text, section.answers[0], section.name, thought=f"This is about gemstead: {section.fields[0]}."
    )


def chat(banks: Banks, rng: random.Random, style: Style) -> Turn:
    """Small talk."""
    section = rng.choice(banks.starting("chat_"))
    text = say(banks, section.lines, {}, style, rng, extras=0.2)
    return Turn(text, section.answers[0], section.name, thought=f"This is small talk: {section.fields[0]}.")


def beyond(banks: Banks, rng: random.Random, style: Style) -> Turn:
    """A request that pebble must decline."""
    section = rng.choices(banks.starting("beyond_"), [50, 28, 9, 20])[0]
    slots = {name: banks.pick(f"list_{name}", rng) for name in _SLOTS}
    for name in ("place", "topic", "person", "noun", "food", "sport"):
        slots[f"{name}2"] = banks.pick(f"list_{name}", rng)
    slots["made"], slots["made2"] = (_made(banks, rng) for _ in range(2))
    slots = {k: _lower(v, style) for k, v in slots.items()}
    text = say(banks, section.lines, slots, style, rng, extras=0.15)
    return Turn(text, section.answers[0], section.name, thought=f"This is beyond me: {section.fields[0]}.")


def _lower(text: str, style: Style) -> str:
    return text.lower() if style.case == "lower" else text


def _made(banks: Banks, rng: random.Random) -> str:
    """A word that does not exist, for all the words that pebble has never seen."""
    return "".join(banks.pick("list_syllable", rng) for _ in range(rng.choice([2, 3, 3]))) + rng.choice(
        ["", "n", "s"]
    )


def name(banks: Banks, rng: random.Random, held: bool) -> str:
    """A first name: a common one, or an invented one so that copying is learned."""
    if rng.random() < 0.5 and not held:
        return banks.pick("names", rng)
    return _made(banks, rng).capitalize()


def tell(banks: Banks, rng: random.Random, style: Style, memory: Memory, held: bool = False) -> Turn:
    """The person says something about themselves."""
    kind = rng.choices(list(_NOTED), [50, 9, 10, 10, 10, 11])[0]
    value = {
        "name": lambda: (
            name(banks, rng, held)
            if rng.random() < 0.93
            else f"{name(banks, rng, held)} {name(banks, rng, held)}"
        ),
        "age": lambda: str(rng.randint(5, 99)),
        "city": lambda: banks.pick("list_place", rng).removeprefix("the "),
        "pet": lambda: name(banks, rng, held),
        "like": lambda: banks.pick("list_like", rng),
        "job": lambda: banks.pick("list_job", rng),
    }[kind]()
    value = _lower(value, style)
    lines = banks[f"tell_{kind}"].lines
    text = say(banks, lines, {"x": value}, style, rng, extras=0.12)
    memory.facts[kind] = value
    answer = _NOTED[kind].replace("{x}", value)
    return Turn(text, answer, f"tell_{kind}", thought="They tell me something about themselves.")


def recall(banks: Banks, rng: random.Random, style: Style, memory: Memory, kind: str | None = None) -> Turn:
    """The person asks for it back; what was never told is admitted."""
    kind = kind or rng.choice(list(_NOTED))
    text = say(banks, banks[f"ask_{kind}"].lines, {}, style, rng, extras=0.12)
    value = memory.facts.get(kind)
    answer = _REMEMBERED[kind].replace("{x}", value) if value else banks["unknown"].answers[0]
    thought = "They ask what they told me." if value else "They ask something they have not told me."
    return Turn(text, answer, f"ask_{kind}", thought=thought)
