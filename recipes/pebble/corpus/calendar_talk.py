"""Date questions: from the bank's wordings to a date_math call.

Dates appear in the many ways people write them and always go into the call as YYYY-MM-DD (MM-DD
without a year, or a word such as today). Slashes read month first, dots day first.
"""

from __future__ import annotations

import calendar
import random
from dataclasses import dataclass
from datetime import date, timedelta

from corpus.grammar import Banks, Style, held_out, say
from corpus.numbers import Numbers, in_words
from corpus.turn import Bare, Call, Turn

_INTENTS = {
    "date_weekday": 9,
    "date_add": 10,
    "date_subtract": 7,
    "today_add": 7,
    "today_subtract": 5,
    "between_days": 10,
    "between_weeks": 2,
    "between_months": 2,
    "between_years": 2,
    "between_workdays": 1,
    "until_days": 9,
    "until_weeks": 2,
    "until_months": 1.2,
    "until_workdays": 0.8,
    "since_days": 5,
    "since_weeks": 1.2,
    "since_months": 1.2,
    "since_years": 5,
    "today": 4,
    "tomorrow": 1.2,
    "yesterday": 1,
    "next_weekday": 1.5,
    "last_weekday": 1,
    "leap": 1,
    "month_days": 1,
}
_HOLIDAYS = {
    "Christmas": "12-25",
    "Christmas Day": "12-25",
    "Christmas Eve": "12-24",
    "New Year's Eve": "12-31",
    "New Year": "01-01",
    "New Year's Day": "01-01",
    "Halloween": "10-31",
    "Valentine's Day": "02-14",
    "xmas": "12-25",
}
_WEEKDAYS = list(calendar.day_name)


@dataclass(frozen=True)
class Day:
    """A date as written and as it goes into the call."""

    surface: str
    iso: str


def _free(day: date, held: bool) -> bool:
    return held_out(day.isoformat(), 12) == held


def draw_day(rng: random.Random, style: Style, held: bool, low: int = 1900, high: int = 2060) -> Day:
    """A full date, mostly near the present."""
    for _ in range(60):
        year = rng.randint(low, high) if rng.random() < 0.35 else rng.randint(max(low, 2018), min(high, 2030))
        day = date(year, 1, 1) + timedelta(days=rng.randrange(365))
        if _free(day, held):
            break
    return Day(_cased(write_day(day, rng), style), day.isoformat())


def _cased(text: str, style: Style) -> str:
    return text.lower() if style.case == "lower" else text


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    return f"{n}{'th' if 10 < n % 100 < 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def write_day(day: date, rng: random.Random) -> str:
    """One of the ways people write a full date."""
    name, y, m, d = calendar.month_name[day.month], day.year, day.month, day.day
    short = name[:3] if rng.random() < 0.8 or len(name) < 5 else name[:3] + "."
    forms = [
        (18, f"{name} {d}, {y}"),
        (6, f"{name} {d} {y}"),
        (16, f"{d} {name} {y}"),
        (6, f"{name} {ordinal(d)}, {y}"),
        (4, f"{name} {ordinal(d)} {y}"),
        (5, f"{ordinal(d)} {name} {y}"),
        (5, f"the {ordinal(d)} of {name} {y}"),
        (2, f"the {ordinal(d)} of {name}, {y}"),
        (3, f"{ordinal(d)} of {name} {y}"),
        (14, day.isoformat()),
        (5, f"{short} {d}, {y}"),
        (4, f"{d} {short} {y}"),
        (2, f"{short} {d} {y}"),
        (2, f"{short} {ordinal(d)} {y}"),
        (5, f"{m}/{d}/{y}"),
        (3, f"{m:02d}/{d:02d}/{y}"),
        (2, f"{d}.{m}.{y}"),
        (2, f"{d:02d}.{m:02d}.{y}"),
        (2, f"{y}/{m:02d}/{d:02d}"),
        (1, f"{y}-{m}-{d}"),
    ]
    return rng.choices([f for _, f in forms], [w for w, _ in forms])[0]


def write_short(month: int, d: int, rng: random.Random) -> str:
    """A date without a year."""
    name = calendar.month_name[month]
    forms = [
        f"{name} {d}",
        f"{d} {name}",
        f"{name} {ordinal(d)}",
        f"the {ordinal(d)} of {name}",
        f"{ordinal(d)} {name}",
        f"{name[:3]} {d}",
        f"{d} {name[:3]}",
        f"{ordinal(d)} of {name}",
        f"{month}/{d}",
    ]
    return rng.choices(forms, [25, 25, 12, 10, 6, 5, 4, 5, 3])[0]


def draw_short(rng: random.Random, style: Style, held: bool) -> Day:
    """A date without a year, or a holiday; it means the next one."""
    if rng.random() < 0.3:
        name = rng.choices(list(_HOLIDAYS), [12, 2, 3, 3, 2, 2, 4, 3, 1])[0]
        shown = name.replace("'", style.apostrophe)
        return Day(
            _cased(shown, style) if shown.isalpha() or style.case != "normal" else shown, _HOLIDAYS[name]
        )
    while True:
        month = rng.randint(1, 12)
        d = rng.randint(1, calendar.monthrange(2023, month)[1])
        if _free(date(2023, month, d), held):
            return Day(_cased(write_short(month, d, rng), style), f"{month:02d}-{d:02d}")


def date_question(banks: Banks, rng: random.Random, style: Style, today: date, held: bool = False) -> Turn:
    """One date question asked in some way."""
    intent = rng.choices(list(_INTENTS), list(_INTENTS.values()))[0]
    return _ask(intent, banks, rng, style, today, held)


def _ask(intent: str, banks: Banks, rng: random.Random, style: Style, today: date, held: bool) -> Turn:
    slots: dict[str, str] = {"name": banks.pick("names", rng)}
    arguments = _arguments(intent, slots, rng, style, today, held)
    text = say(banks, banks[intent].lines, slots, style, rng)
    if intent == "today_add" and slots.get("unit") != "days" and "day zero" in text.lower():
        return _ask(intent, banks, rng, style, today, held)
    turn = date_turn(text, arguments, intent)
    turn.answer = slots.get("answer", turn.answer)
    return turn


def date_turn(user: str, arguments: dict[str, str | Bare], intent: str) -> Turn:
    """A turn that calls date_math and quotes it."""
    answers = {
        "today": "Today is {result}.",
        "tomorrow": "Tomorrow is {result}.",
        "yesterday": "Yesterday was {result}.",
    }
    prefix = "It is" if arguments["operation"] == "difference" else "That is"
    return Turn(
        user,
        thought=f"This is a date question: {_thought(arguments)}",
        calls=[Call("date_math", arguments)],
        answer=answers.get(intent, f"{prefix} {{result}}."),
        intent=intent,
        facts={f"date_{k}": str(v) for k, v in arguments.items()},
    )


def _thought(arguments: dict[str, str | Bare]) -> str:
    day = arguments["date"]
    if arguments["operation"] == "weekday":
        return f"weekday of {day}."
    if arguments["operation"] == "difference":
        return f"{arguments.get('unit', 'days')} from {day} to {arguments['other_date']}."
    sign = "+" if arguments["operation"] == "add" else "-"
    return f"{day} {sign} {arguments['amount']} {arguments['unit']}."


def _arguments(
    intent: str, slots: dict[str, str], rng: random.Random, style: Style, today: date, held: bool
) -> dict[str, str | Bare]:
    """Fill the slots the intent's lines use and give the call they mean."""
    if intent in ("today", "tomorrow", "yesterday"):
        return {"date": intent, "operation": "weekday"}
    if intent in ("next_weekday", "last_weekday"):
        weekday = rng.choice(_WEEKDAYS)
        slots["w"] = _cased(weekday, style)
        return {"date": f"{intent[:4]} {weekday.lower()}", "operation": "weekday"}
    if intent == "leap":
        year = rng.choice([rng.randint(1900, 2100), 4 * rng.randint(480, 520), 100 * rng.randint(17, 24)])
        slots["y"] = str(year)
        verdict = "Yes" if calendar.isleap(year) else "No"
        slots["answer"] = f"{verdict}: 28 February {year} is followed by {{result}}."
        return {"amount": Bare("1"), "date": f"{year}-02-28", "operation": "add", "unit": "days"}
    if intent == "month_days":
        year, month = rng.randint(1990, 2040), rng.randint(1, 12)
        slots["d"] = _cased(f"{calendar.month_name[month]} {year}", style)
        after = date(year + month // 12, month % 12 + 1, 1)
        arguments: dict[str, str | Bare] = {"operation": "difference", "unit": "days"}
        return {**arguments, "date": f"{year}-{month:02d}-01", "other_date": after.isoformat()}
    if intent.endswith(("_add", "_subtract")):
        return _shift_arguments(intent, slots, rng, style, held)
    if intent == "date_weekday":
        day = draw_short(rng, style, held) if rng.random() < 0.2 else draw_day(rng, style, held)
        slots["d"] = day.surface
        return {"date": day.iso, "operation": "weekday"}
    return _difference_arguments(intent, slots, rng, style, today, held)


def _shift_arguments(
    intent: str, slots: dict[str, str], rng: random.Random, style: Style, held: bool
) -> dict[str, str | Bare]:
    unit = rng.choices(["days", "weeks", "months", "years", "workdays"], [50, 22, 14, 9, 5])[0]
    top = {"days": 400, "weeks": 60, "months": 36, "years": 40, "workdays": 90}[unit]
    n = Numbers(rng, held).whole(1, 2000 if unit == "days" and rng.random() < 0.1 else top)
    noun = unit if n != 1 else unit[:-1]
    if unit == "workdays":
        noun = rng.choice(["workdays", "working days", "business days"])
        noun = noun if n != 1 else noun[:-1]
    pick = rng.random()
    amount = in_words(n) if n <= 20 and pick < 0.25 else f"{n:,}" if n > 999 and pick < 0.3 else str(n)
    if n == 1 and rng.random() < 0.6:
        amount = "a"
    slots["nu"], slots["n"], slots["unit"] = _cased(f"{amount} {noun}", style), str(n), unit
    out: dict[str, str | Bare] = {"amount": Bare(n), "operation": intent.split("_")[1], "unit": unit}
    if intent.startswith("today"):
        return {**out, "date": "today"}
    day = draw_short(rng, style, held) if rng.random() < 0.12 else draw_day(rng, style, held)
    if rng.random() < 0.04:
        word = rng.choice(["tomorrow", "today", "yesterday"])
        day = Day(_cased(word, style), word)
    slots["d"] = day.surface
    return {**out, "date": day.iso}


def _difference_arguments(
    intent: str, slots: dict[str, str], rng: random.Random, style: Style, today: date, held: bool
) -> dict[str, str | Bare]:
    kind, unit = intent.split("_")
    out: dict[str, str | Bare] = {"operation": "difference", "unit": unit}
    if kind == "until":
        if rng.random() < 0.6:
            day = draw_short(rng, style, held)
        else:
            day = draw_day(rng, style, held, today.year, today.year + 25)
        slots["d"] = day.surface
        return {**out, "date": "today", "other_date": day.iso}
    if kind == "since":
        low, high = (1930, today.year - 1) if unit == "years" else (1980, today.year)
        slots["d"] = (day := draw_day(rng, style, held, low, high)).surface
        return {**out, "date": day.iso, "other_date": "today"}
    first, second = draw_day(rng, style, held), draw_day(rng, style, held)
    if first.iso > second.iso and rng.random() < 0.9:
        first, second = second, first
    if rng.random() < 0.12:
        first, second = _same_year(rng, style, held)
    slots["d"], slots["e"] = first.surface, second.surface
    return {**out, "date": first.iso, "other_date": second.iso}


def _same_year(rng: random.Random, style: Style, held: bool) -> tuple[Day, Day]:
    """'between March 3 and July 9, 2024': the first date borrows the second's year."""
    year = rng.randint(1990, 2040)
    while True:
        days = sorted(date(year, 1, 1) + timedelta(days=rng.randrange(365)) for _ in range(2))
        if days[0] != days[1] and all(_free(day, held) for day in days):
            break
    style_number = rng.random()
    names = [calendar.month_name[day.month] for day in days]
    if style_number < 0.5:
        shown = f"{names[0]} {days[0].day}", f"{names[1]} {days[1].day}, {year}"
    else:
        shown = f"{days[0].day} {names[0]}", f"{days[1].day} {names[1]} {year}"
    return tuple(Day(_cased(s, style), d.isoformat()) for s, d in zip(shown, days, strict=True))  # type: ignore[return-value]
