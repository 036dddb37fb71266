"""The three built-in tools: a calculator, a unit converter and a calendar.

Each is a Tool whose function takes the declared arguments and returns text with everything an answer
needs. Descriptions are short: they stand in every prompt. Wrong arguments raise InputError, which
loop.py turns into a result the model can read.
"""

from __future__ import annotations

from datetime import date
from fractions import Fraction

from gemstead.agent import dates, units
from gemstead.agent.calculator import evaluate, format_number
from gemstead.errors import InputError
from gemstead.types import Tool


def calculator(expression: str) -> str:
    """The value of an arithmetic expression as plain text."""
    return format_number(evaluate(str(expression)))


def convert_units(value: float | int | str, from_unit: str, to_unit: str) -> str:
    """A converted value with both units named, such as '5 miles = 8.04672 kilometres'."""
    return units.convert(_exact(value), str(from_unit), str(to_unit))


def date_math(
    operation: str,
    date: str = "today",  # the model's word for it
    amount: float | int | str | None = None,
    unit: str = "days",
    other_date: str | None = None,
) -> str:
    """A date, a weekday or the time between two dates, counted from this machine's today."""
    number = None if amount is None else _whole(amount)
    return dates.compute(operation, date, number, unit, other_date, today=_today())


def _today() -> date:
    return date.today()


def _exact(value: float | int | str) -> Fraction:
    """The number as written: 0.1 means one tenth, not its nearest binary fraction."""
    if isinstance(value, bool) or value is None:
        raise InputError(f"value {value!r} is not a number; write one such as 2.5")
    return evaluate(value if isinstance(value, str) else repr(value))


def _whole(value: float | int | str) -> int:
    exact = _exact(value)
    if exact.denominator != 1:
        raise InputError(f"amount {value} is not a whole number; use a smaller unit")
    return exact.numerator


def _object(required: tuple[str, ...], **properties: dict[str, object]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(required)}


CALCULATOR = Tool(
    "calculator",
    "Evaluates arithmetic with + - * / ^ ( ) % of, sqrt(), average()",
    _object(("expression",), expression={"type": "string"}),
    function=calculator,
)
CONVERT_UNITS = Tool(
    "convert_units",
    "Converts a value between units",
    _object(
        ("value", "from_unit", "to_unit"),
        value={"type": "number"},
        from_unit={"type": "string"},
        to_unit={"type": "string"},
    ),
    function=convert_units,
)
DATE_MATH = Tool(
    "date_math",
    "Adds to a date, subtracts from it, counts from date to other_date, or names the weekday. "
    "A date is YYYY-MM-DD, MM-DD or a word such as today",
    _object(
        ("operation", "date"),
        operation={"type": "string", "enum": list(dates.OPERATIONS)},
        date={"type": "string"},
        amount={"type": "integer"},
        unit={"type": "string", "enum": list(dates.UNITS)},
        other_date={"type": "string"},
    ),
    function=date_math,
)
BUILT_IN: tuple[Tool, ...] = (CALCULATOR, CONVERT_UNITS, DATE_MATH)
