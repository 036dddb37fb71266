"""Unit conversions: from the bank's units and wordings to a convert_units call.

The unit goes into the call as the person wrote it: copying is what a small model does reliably, and
the tool knows the spellings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from corpus.grammar import Banks, Style, say
from corpus.numbers import Number, Numbers
from corpus.turn import Bare, Call, Turn
from gemstead.agent.units import find_units

_KINDS = {
    "length": 10,
    "mass": 8,
    "volume": 7,
    "temperature": 9,
    "area": 4,
    "speed": 4,
    "time": 7,
    "data": 4,
    "energy": 3,
    "pressure": 2.5,
    "power": 1.5,
    "angle": 1,
}
_WORD_VALUES = {
    "half a": "0.5",
    "half an": "0.5",
    "a quarter of a": "0.25",
    "one and a half": "1.5",
    "two and a half": "2.5",
    "three and a half": "3.5",
    "a": "1",
    "one": "1",
    "a single": "1",
    "a dozen": "12",
    "a hundred": "100",
    "a thousand": "1000",
    "a million": "1000000",
    "half a million": "500000",
}
_SINGULAR = {"half a", "half an", "a quarter of a", "a", "one", "a single"}


@dataclass(frozen=True)
class UnitName:
    """One unit's ways to be written."""

    plural: str
    singular: str
    short: tuple[str, ...]
    weight: float


def units_of(banks: Banks, kind: str) -> list[UnitName]:
    """The units of a kind, as listed in the bank."""
    out = []
    for source in banks[f"units_{kind}"].sources:
        head, _, weight = source.rpartition("/")
        names = head.split("/")
        if len(names) > 3:  # a unit with a slash of its own: km/h/km/h/km/h
            third = len(names) // 3 if len(names) % 3 == 0 else 0
            plural, singular = (
                ("/".join(names[i * third : i * third + third]) for i in (0, 1)) if third else names[:2]
            )
            short = "/".join(names[2 * third :]) if third else "/".join(names[2:])
        else:
            plural, singular, short = names
        out.append(UnitName(plural, singular, tuple(s for s in short.split(",") if s), float(weight)))
    return out


def conversion(banks: Banks, rng: random.Random, style: Style, held: bool = False) -> Turn:
    """One conversion asked in some way."""
    kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    other = kind
    if rng.random() < 0.012:  # a request that cannot work
        other = rng.choice([k for k in ("length", "mass", "time", "temperature", "volume") if k != kind])
    source, target = _two_units(banks, rng, kind, other)
    if kind != "temperature" and rng.random() < 0.13:
        return _one(banks, rng, style, source, target)
    own = banks[f"convert_{kind}"].lines
    general = kind != other or rng.random() < 0.62
    lines = banks["convert"].lines if general else own
    number, unit, joined = _value(rng, style, held, kind, source)
    to = _cased(_target(rng, target), style)
    shown = f"degrees {to}" if other == "temperature" and to[0] != "°" and rng.random() < 0.15 else to
    slots = {"v": number.surface, "u": unit, "vu": joined, "t": shown}
    return convert_turn(say(banks, lines, slots, style, rng), number.plain, unit, to)


def convert_turn(user: str, value: str, unit: str, to: str) -> Turn:
    """A turn that calls convert_units and quotes it."""
    return Turn(
        user,
        thought=f"This is a conversion from {unit} to {to}.",
        calls=[Call("convert_units", {"from_unit": unit, "to_unit": to, "value": Bare(value)})],
        answer="{result}.",
        intent="convert",
        facts={"value": value, "from": unit, "to": to},
    )


def _two_units(banks: Banks, rng: random.Random, kind: str, other: str) -> tuple[UnitName, UnitName]:
    sources, targets = units_of(banks, kind), units_of(banks, other)
    for _ in range(50):
        source = rng.choices(sources, [u.weight for u in sources])[0]
        target = rng.choices(targets, [u.weight for u in targets])[0]
        if not set(find_units(source.singular)) & set(find_units(target.singular)):
            break
    return source, target


def _one(banks: Banks, rng: random.Random, style: Style, source: UnitName, target: UnitName) -> Turn:
    """'How many feet are in a mile?'"""
    unit, to = _cased(source.singular, style), _cased(target.plural, style)
    slots = {"u": unit, "t": to}
    text = say(banks, banks["convert_one"].lines, slots, style, rng)
    if unit[0].lower() in "aeio" or unit.lower() == "hour":
        text = text.replace(f" a {unit}", f" an {unit}").replace(f"A {unit}", f"An {unit}")
    return convert_turn(text, "1", unit, to)


def _value(
    rng: random.Random, style: Style, held: bool, kind: str, unit: UnitName
) -> tuple[Number, str, str]:
    """The number, the unit as written after it, and both together."""
    pick = rng.random()
    if kind != "temperature" and pick < 0.09:
        words = rng.choice(list(_WORD_VALUES))
        number = Number(words, _WORD_VALUES[words])
        if number.surface[-2:] in ("an", " a") and unit.singular[0] in "aeio":
            number = Number(
                number.surface.removesuffix("n").removesuffix(" a").removesuffix("a") + " an", number.plain
            )
            number = Number(number.surface.strip().replace("  ", " "), number.plain)
        written = unit.singular if words in _SINGULAR else unit.plural
        written = _cased(written, style)
        return number, written, f"{number.surface} {written}"
    number = _amount(Numbers(rng, held), kind)
    if unit.short and rng.random() < 0.38:
        written = _cased(rng.choice(unit.short), style)
        gap = "" if rng.random() < 0.5 or written[0] in "°" else " "
        if kind == "temperature" and written[0] != "°" and rng.random() < 0.3:
            return number, written, f"{number.surface} degrees {written}"
        return number, written, f"{number.surface}{gap if number.surface[-1].isdigit() else ' '}{written}"
    written = _cased(unit.singular if number.plain == "1" else unit.plural, style)
    gap = "-" if rng.random() < 0.01 else " degrees " if kind == "temperature" and rng.random() < 0.4 else " "
    return number, written, f"{number.surface}{gap}{written}"


def _amount(numbers: Numbers, kind: str) -> Number:
    rng = numbers.rng
    if kind == "temperature":
        drawn = numbers.draw(rng.choices(["neg", "c", "s", "d"], [15, 45, 30, 10])[0])
    else:
        drawn = numbers.draw(rng.choices(["k", "c", "s", "i", "d", "b"], [20, 24, 18, 14, 22, 2])[0])
    if "." in drawn.plain:  # a number argument keeps no closing zeros
        plain = drawn.plain.rstrip("0").rstrip(".")
        return drawn if plain == drawn.plain else Number(plain, plain)
    return drawn


def _target(rng: random.Random, unit: UnitName) -> str:
    if unit.short and rng.random() < 0.30:
        return rng.choice(unit.short)
    return unit.singular if rng.random() < 0.03 else unit.plural


def _cased(unit: str, style: Style) -> str:
    if len(unit) <= 3 or "/" in unit or any(c.isupper() for c in unit[1:]):
        return unit
    return unit.lower() if style.case == "lower" else unit
