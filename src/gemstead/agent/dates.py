"""Calendar arithmetic on dates as people and models write them.

Adds, subtracts, counts between two dates and names weekdays; results are sentences' worth of text
with both the written and the ISO form. The calendar is the Gregorian one; times of day are refused.
`today` is a parameter everywhere so that results can be reproduced. Used by tools.py.
"""

from __future__ import annotations

import calendar
import re
from datetime import date, timedelta

from gemstead.errors import InputError

OPERATIONS = ("add", "subtract", "difference", "weekday")
UNITS = ("days", "weeks", "months", "years", "workdays")
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_name) if name}
_WEEKDAYS = {name.lower(): number for number, name in enumerate(calendar.day_name)}
_HOLIDAYS = {
    "new year": (1, 1),
    "new years day": (1, 1),
    "valentines day": (2, 14),
    "halloween": (10, 31),
    "christmas eve": (12, 24),
    "christmas": (12, 25),
    "christmas day": (12, 25),
    "boxing day": (12, 26),
    "new years eve": (12, 31),
}


def parse_date(text: str, today: date) -> date:
    """The day `text` names: ISO, 'today', 'tomorrow', a weekday (the next one), '12-25', 'March 3, 2024'.

    A date without a year is its next occurrence, today included. Raises InputError if unreadable.
    """
    plain = re.sub(
        r"[,.']|(?<=\d)(st|nd|rd|th)\b|\b(the|of|on)\b", " ", str(text).strip().lower().replace("'", "")
    )
    words = " ".join(plain.split())
    near = {"today": 0, "now": 0, "tomorrow": 1, "yesterday": -1}
    if words in near:
        return today + timedelta(days=near[words])
    if words in _HOLIDAYS:
        return _next(today, *_HOLIDAYS[words])
    if words.removeprefix("next ").removeprefix("this ") in _WEEKDAYS:
        ahead = _WEEKDAYS[words.removeprefix("next ").removeprefix("this ")] - today.weekday()
        return today + timedelta(days=(ahead - 1) % 7 + 1)
    if words.removeprefix("last ") in _WEEKDAYS:
        back = today.weekday() - _WEEKDAYS[words.removeprefix("last ")]
        return today - timedelta(days=(back - 1) % 7 + 1)
    if match := re.fullmatch(r"(\d{1,4})[-/](\d{1,2})[-/](\d{1,2})(?:t.*)?", words):
        return _date(*(int(part) for part in match.groups()), text=text)
    if match := re.fullmatch(r"(?:--)?(\d{1,2})-(\d{1,2})", words):
        return _next(today, int(match[1]), int(match[2]), text)
    return _named(words, text, today)


def _named(words: str, text: str, today: date) -> date:
    """'3 march 2024', 'march 3 2024', 'march 3'."""
    parts = words.split()
    months = [p for p in parts if p.isalpha() and len(p) >= 3 and any(m.startswith(p) for m in _MONTHS)]
    numbers = [int(p) for p in parts if p.isdigit()]
    if len(months) == 1 and len(numbers) in (1, 2) and len(parts) == len(numbers) + 1:
        month = next(number for name, number in _MONTHS.items() if name.startswith(months[0]))
        if len(numbers) == 1:
            return _next(today, month, numbers[0], text)
        return _date(numbers[1], month, numbers[0], text=text)
    raise InputError(f"cannot read the date {text!r}; write YYYY-MM-DD, such as 2024-03-01, or today")


def _date(year: int, month: int, day: int, *, text: str) -> date:
    if not 1 <= year <= 9999 or not 1 <= month <= 12:
        raise InputError(f"{text} is not a date; write YYYY-MM-DD, such as 2024-03-01")
    last = calendar.monthrange(year, month)[1]
    if not 1 <= day <= last:
        raise InputError(f"{calendar.month_name[month]} {year} has only {last} days")
    return date(year, month, day)


def _next(today: date, month: int, day: int, text: str = "") -> date:
    """The next occurrence of a day of the year; 29 February waits for a leap year."""
    if not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(2024, month)[1]:
        raise InputError(f"{text} is not a day of the year; write MM-DD, such as 12-25")
    year = today.year + ((month, day) < (today.month, today.day))
    while day > calendar.monthrange(year, month)[1]:
        year += 1
    return date(year, month, day)


def describe(day: date) -> str:
    """'Friday, 25 December 2026 (2026-12-25)'."""
    weekday, month = calendar.day_name[day.weekday()], calendar.month_name[day.month]
    return f"{weekday}, {day.day} {month} {day.year} ({day.isoformat()})"


def shift(day: date, amount: int, unit: str) -> date:
    """`day` moved by `amount` units; a month too short gives its last day (31 January + 1 month)."""
    try:
        if unit in ("days", "weeks"):
            return day + timedelta(days=amount * (7 if unit == "weeks" else 1))
        if unit == "workdays":
            return _shift_workdays(day, amount)
        total = day.year * 12 + day.month - 1 + amount * (12 if unit == "years" else 1)
        year, month = divmod(total, 12)
        return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
    except (OverflowError, ValueError, calendar.IllegalMonthError):
        raise InputError("the date leaves the calendar; years 1 to 9999 are known") from None


def _shift_workdays(day: date, amount: int) -> date:
    weeks, rest = divmod(abs(amount), 5)
    step = timedelta(days=1 if amount >= 0 else -1)
    while amount and day.weekday() > 4:  # a weekend counts as the workday before it (behind us)
        day -= step
    day += weeks * 7 * step
    while rest:
        day += step
        rest -= day.weekday() < 5
    return day


def between(start: date, end: date, unit: str) -> str:
    """The length from `start` to `end` (either order) in `unit`, with what is left over."""
    if start > end:
        start, end = end, start
    days = (end - start).days
    if unit == "days":
        return _count(days, "day")
    if unit == "weeks":
        return _join(_count(days // 7, "week"), _count(days % 7, "day"))
    if unit == "workdays":
        weeks, rest = divmod(days, 7)
        extra = sum((start + timedelta(days=i)).weekday() < 5 for i in range(rest))
        return _count(weeks * 5 + extra, "workday")
    months = (end.year - start.year) * 12 + end.month - start.month
    months -= shift(start, months, "months") > end
    left = _count((end - shift(start, months, "months")).days, "day")
    if unit == "months":
        return _join(_count(months, "month"), left)
    return _join(_count(months // 12, "year"), _count(months % 12, "month"), left)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _join(*parts: str) -> str:
    kept = [part for part in parts if not part.startswith("0 ")] or [parts[0]]
    return kept[0] if len(kept) == 1 else f"{', '.join(kept[:-1])} and {kept[-1]}"


def compute(
    operation: str, day: str, amount: int | None, unit: str, other: str | None, *, today: date
) -> str:
    """One calendar question answered as text; see the declaration in tools.py for the arguments."""
    if operation not in OPERATIONS:
        raise InputError(f"unknown operation {operation!r}; use one of {', '.join(OPERATIONS)}")
    unit = _unit(unit)
    start = parse_date(day, today)
    if operation == "weekday":
        return describe(start)
    if operation == "difference":
        end = parse_date(other if other is not None else "today", today)
        return f"{between(start, end, unit)} ({start.isoformat()} to {end.isoformat()})"
    if amount is None:
        raise InputError(f"{operation} needs an amount, such as 30")
    return describe(shift(start, -amount if operation == "subtract" else amount, unit))


def _unit(unit: str) -> str:
    name = str(unit).strip().lower()
    name = name if name.endswith("s") else f"{name}s"
    name = {"business days": "workdays", "working days": "workdays", "weekdays": "workdays"}.get(name, name)
    if name not in UNITS:
        raise InputError(f"unknown unit {unit!r}; use one of {', '.join(UNITS)}")
    return name
