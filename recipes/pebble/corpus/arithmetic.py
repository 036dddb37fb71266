"""Arithmetic requests: from the bank's sections to a calculator call.

A section's header gives the kind of number for each slot and the expression, which only ever
transcribes what was said; nothing is computed on the way.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import lru_cache

from corpus.grammar import Banks, Section, Style, say
from corpus.numbers import Number, Numbers
from corpus.turn import Call, Turn

_GLYPHS = {"*": ["*", "x", "×"], "/": ["/", "÷"], "+": ["+"], "-": ["-", "-", "-", "−"]}


@dataclass(frozen=True)
class Form:
    """One section read: its slots in order (name, kind, name it must stay below) and its expression."""

    section: Section
    slots: tuple[tuple[str, str, str | None], ...]
    expression: str
    weight: float  # the header's, but enough for a rare form to be learned


@lru_cache(maxsize=4)
def _forms(key: int, banks_holder: tuple[Banks]) -> tuple[list[Form], list[float]]:
    del key
    forms = []
    for section in banks_holder[0].sections.values():
        if len(section.fields) != 3 or ":" not in section.fields[0]:
            continue
        slots = []
        for part in section.fields[0].split():
            name, kind = part.split(":")
            kind, _, below = kind.partition("<")
            slots.append((name, kind, below or None))
        forms.append(Form(section, tuple(slots), section.fields[1], max(1.2, float(section.fields[2]))))
    return forms, [form.weight for form in forms]


class _Key(tuple):  # type: ignore[type-arg]
    """A one-tuple that hashes by identity, so that banks can key a cache."""

    __slots__ = ()

    def __hash__(self) -> int:
        return id(self[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other[0] is self[0]


def arithmetic(banks: Banks, rng: random.Random, style: Style, held: bool = False) -> Turn:
    """One sum asked in some way."""
    forms, weights = _forms(0, _Key((banks,)))
    form = rng.choices(forms, weights)[0]
    return ask(banks, form, rng, style, held)


def ask(banks: Banks, form: Form, rng: random.Random, style: Style, held: bool) -> Turn:
    """A question of one form."""
    numbers = Numbers(rng, held, in_words=rng.random() < 0.08)
    slots, plain = _fill_names(banks, rng), {}
    for name, kind, below in form.slots:
        number = _number(numbers, kind, plain.get(below) if below else None)
        slots[name], plain[name] = number.surface, number.plain
    text = say(banks, form.section.lines, slots, style, rng)
    expression = _signs(form.expression.format(**plain))
    return calculation(text, expression, form.section.name)


def calculation(user: str, expression: str, intent: str) -> Turn:
    """A turn that calls the calculator and quotes it."""
    verb = "is" if " of " in expression and not set(expression) & set("+*") else "="
    return Turn(
        user,
        thought=f"This is arithmetic: {expression}",
        calls=[Call("calculator", {"expression": expression})],
        answer=f"{expression} {verb} {{result}}.",
        intent=intent,
        facts={"expression": expression},
    )


def _signs(expression: str) -> str:
    """Negative numbers after a power or a root keep their meaning in brackets."""
    return re.sub(r"^(-[\d.]+)\^", r"(\1)^", expression)


def _fill_names(banks: Banks, rng: random.Random) -> dict[str, str]:
    first, second = banks.pick("names", rng), banks.pick("names", rng)
    return {
        "name": first,
        "name2": second if second != first else "Kim",
        "thing": banks.pick("things", rng),
        "group": banks.pick("groups", rng),
        "people": banks.pick("people", rng),
    }


def _number(numbers: Numbers, kind: str, below: str | None) -> Number:
    rng = numbers.rng
    if kind == "L":
        return numbers.listing("d" if rng.random() < 0.2 else rng.choice(["c", "c", "s", "i"]))
    if kind == "E":
        return expression(numbers)
    if kind == "D":
        places = "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 5)))
        return _long_decimal(numbers.whole(0, 999), places)
    if kind == "r":
        root = numbers.whole(2, 60)
        return numbers.written(root * root) if rng.random() < 0.5 else numbers.draw("h")
    if kind == "e":
        return numbers.draw("d") if rng.random() < 0.2 else numbers.draw("s")
    if kind == "q":
        return numbers.draw(rng.choices(["k", "c", "s", "d", "neg"], [45, 25, 15, 10, 5])[0])
    if kind == "g":
        return numbers.draw(rng.choices(["k", "c", "s", "d"], [40, 30, 10, 20])[0])
    return numbers.draw(kind, below)


def _long_decimal(whole: int, places: str) -> Number:
    text = f"{whole}.{places}".rstrip("0")
    text = text + "5" if text.endswith(".") else text
    return Number(text, text)


def expression(numbers: Numbers) -> Number:
    """An expression in symbols: two to five numbers, sometimes with brackets, as typed and in plain form."""
    rng = numbers.rng
    tokens = _operand(numbers, 0)
    for _ in range(rng.choices([1, 2, 3], [45, 40, 15])[0]):
        operator = rng.choices("+-*/^", [30, 25, 25, 17, 3])[0]
        operand = [str(rng.randint(2, 4))] if operator == "^" else _operand(numbers, 0)
        tokens = [*tokens, operator, *operand]
    if rng.random() < 0.06:
        tokens = ["sqrt", "(", str(rng.randint(2, 20) ** 2), ")", rng.choice("+-*"), *tokens]
    return Number(_typed(tokens, rng), spaced(tokens))


def _operand(numbers: Numbers, depth: int) -> list[str]:
    rng = numbers.rng
    if depth < 2 and rng.random() < (0.15 if depth == 0 else 0.05):
        inner = _operand(numbers, depth + 1)
        for _ in range(rng.choices([1, 2], [85, 15])[0]):
            inner = [*inner, rng.choices("+-*/", [40, 35, 15, 10])[0], *_operand(numbers, depth + 1)]
        return ["(", *inner, ")"]
    pick = rng.random()
    if pick < 0.78:
        return [str(numbers.whole(1, rng.choice([12, 100, 1000, 9999])))]
    return [numbers.decimal(200)] if pick < 0.98 else [f"-{numbers.whole(1, 99)}"]


def spaced(tokens: list[str]) -> str:
    """The canonical spelling: blanks around operators but none inside brackets and before ^."""
    text = " ".join(tokens).replace("( ", "(").replace(" )", ")").replace(" ^ ", "^")
    return text.replace("sqrt (", "sqrt(")


def _typed(tokens: list[str], rng: random.Random) -> str:
    """The same expression as people type it: other glyphs, fewer blanks."""
    if rng.random() < 0.12 and not {"(", "sqrt", "^"} & set(tokens):
        words = {"*": rng.choice(["times", "multiplied by"]), "/": "divided by", "+": "plus", "-": "minus"}
        return " ".join(words.get(token, token) for token in tokens)
    glyph = {op: rng.choice(options) if rng.random() < 0.5 else op for op, options in _GLYPHS.items()}
    glyph["^"] = rng.choice(["^", "**"])
    text = " ".join(glyph.get(token, token) for token in tokens)
    text = text.replace("( ", "(").replace(" )", ")").replace("sqrt (", "sqrt(")
    if rng.random() < 0.4:
        return text.replace(" ", "")
    return text if rng.random() < 0.5 else text.replace(" ^ ", "^").replace(" ** ", "**")
