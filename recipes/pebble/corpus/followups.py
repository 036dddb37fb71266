"""Questions that lean on the last answer: 'divide that by 3', 'and in metres?', 'are you sure?'.

Each takes the last Turn with its facts and gives a new one; None where the last turn offers no hold.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from corpus.arithmetic import calculation
from corpus.calendar_talk import _cased as cased
from corpus.calendar_talk import _shift_arguments, date_turn, draw_day, draw_short
from corpus.grammar import Banks, Style, say
from corpus.measures import _KINDS, _cased, _target, _value, convert_turn, units_of
from corpus.numbers import Numbers
from corpus.turn import Turn
from gemstead.agent.units import find_units

_THEN = [
    f"then_{x}"
    for x in (
        "divide",
        "times",
        "plus",
        "minus",
        "half",
        "double",
        "square",
        "sqrt",
        "round",
        "round_whole",
        "percent_of",
        "plus_percent",
        "minus_percent",
    )
]
_THEN_WEIGHTS = [12, 12, 12, 12, 4, 4, 2, 2, 2, 1.5, 3, 2, 2]


def follow(banks: Banks, last: Turn, rng: random.Random, style: Style, held: bool) -> Turn | None:
    """A follow-up to `last`, or None."""
    if last.calls and not last.facts:
        return None
    if len(last.calls) == 1 and rng.random() < 0.8:
        made = {
            "calculator": _calculator,
            "convert_units": _convert,
            "date_math": _date,
        }[last.calls[0].name](banks, last, rng, style, held)
        if made is not None:
            return made
    return remark(banks, last, rng, style)


def remark(banks: Banks, last: Turn, rng: random.Random, style: Style) -> Turn:
    """'Are you sure?', 'how did you get that?', 'say that again'."""
    kind = rng.choices(["sure", "how", "again"], [3, 4, 3])[0]
    text = say(banks, banks[kind].lines, {}, style, rng, extras=0.15)
    if kind == "again":
        return Turn(text, last.answer, kind, thought="I repeat my last answer.", facts=last.facts)
    tool = last.calls[0].name if last.calls else ""
    if kind == "sure":
        answer = f"Yes: I used the {tool} tool." if tool else "I think so, but I am a very small model."
    else:
        answer = f"I used the {tool} tool." if tool else "That is what I learned in my training."
    return Turn(text, answer, kind, thought="They ask about my last answer.")


def _calculator(banks: Banks, last: Turn, rng: random.Random, style: Style, held: bool) -> Turn | None:
    result, expression = last.facts["result"], last.facts["expression"]
    percent = re.fullmatch(r"([\d.]+)% of ([\d.]+)", expression)
    if "e" in result or len(result) > 16:
        return None
    numbers = Numbers(rng, held)
    if percent and rng.random() < 0.35:
        kind, slot = rng.choice([("same_percent", "n"), ("other_percent", "p")])
        number = numbers.draw("p" if slot == "p" else "i")
        text = say(banks, banks[kind].lines, {"n": number.surface}, style, rng, extras=0.12)
        part, whole = percent.groups()
        new = f"{number.plain}% of {whole}" if slot == "p" else f"{part}% of {number.plain}"
        return calculation(text, new, kind)
    section = banks[rng.choices(_THEN, _THEN_WEIGHTS)[0]]
    slots: dict[str, str] = {}
    plain = {"r": result}
    if section.fields[0]:
        kind = section.fields[0].split(":")[1]
        number = numbers.draw({"q": "k", "n": "s"}.get(kind, kind))
        slots["n"], plain["n"] = number.surface, number.plain
    text = say(banks, section.lines, slots, style, rng, extras=0.12)
    expression = section.fields[1].format(**plain)
    return calculation(text, re.sub(r"^(-[\d.]+)\^", r"(\1)^", expression), section.name)


def _convert(banks: Banks, last: Turn, rng: random.Random, style: Style, held: bool) -> Turn | None:
    value, unit, to = last.facts["value"], last.facts["from"], last.facts["to"]
    kinds = [k for k in _KINDS if {u.kind for u in find_units(unit)} & {u.kind for u in find_units(to)} & {k}]
    if not kinds:
        return None
    kind = kinds[0]
    listed = units_of(banks, kind)
    pick = rng.random()
    if pick < 0.55:
        near = [u for u in listed if not set(find_units(u.singular)) & {*find_units(unit), *find_units(to)}]
        if not near:
            return None
        target = _cased(_target(rng, rng.choices(near, [u.weight for u in near])[0]), style)
        text = say(banks, banks["other_unit"].lines, {"t": target}, style, rng, extras=0.12)
        return replace(convert_turn(text, value, unit, target), intent="other_unit")
    own = [u for u in listed if unit in (u.plural, u.singular, *u.short)]
    if not own:
        return None
    number, written, joined = _value(rng, style, held, kind, own[0])
    lines = banks["other_value"].lines
    text = say(banks, lines, {"v": number.surface, "vu": joined}, style, rng, extras=0.12)
    if joined not in text:
        if not number.surface[-1].isdigit():
            return None
        return replace(convert_turn(text, number.plain, unit, to), intent="other_value")
    return replace(convert_turn(text, number.plain, written, to), intent="other_value")


def _date(banks: Banks, last: Turn, rng: random.Random, style: Style, held: bool) -> Turn | None:
    facts, call = last.facts, last.calls[0]
    operation = str(call.arguments["operation"])
    found = re.search(r"\((\d{4}-\d\d-\d\d)\)$", facts["result"])
    if operation == "difference":
        unit = rng.choice([u for u in ("days", "weeks", "months", "years") if u != facts.get("date_unit")])
        text = say(banks, banks["other_span"].lines, {"u": cased(unit, style)}, style, rng, extras=0.12)
        return date_turn(text, {**call.arguments, "unit": unit}, "other_span")
    if found is None or last.intent == "leap":
        return None
    slots: dict[str, str] = {}
    pick = rng.random()
    if operation in ("add", "subtract") and pick < 0.4:
        new = _shift_arguments(f"today_{operation}", slots, rng, style, held)
        text = say(banks, banks["other_amount"].lines, slots, style, rng, extras=0.12)
        return date_turn(
            text, {**call.arguments, "amount": new["amount"], "unit": new["unit"]}, "other_amount"
        )
    if operation == "weekday" and pick < 0.35:
        day = draw_short(rng, style, held) if rng.random() < 0.2 else draw_day(rng, style, held)
        text = say(banks, banks["other_day"].lines, {"d": day.surface}, style, rng, extras=0.12)
        return date_turn(text, {"date": day.iso, "operation": "weekday"}, "other_day")
    section = rng.choice(["then_date_add", "then_date_subtract"])
    new = _shift_arguments(f"today_{section.split('_')[2]}", slots, rng, style, held)
    text = say(banks, banks[section].lines, slots, style, rng, extras=0.12)
    if not re.search(r"later|after|earlier|before|plus|minus|add|subtract|take|another", text.lower()):
        return None
    return date_turn(text, {**new, "date": found[1]}, section)
