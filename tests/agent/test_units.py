"""Unit conversion: exact factors, many spellings, ambiguity settled by the other unit."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstead.agent.units import _TABLE, KINDS, convert, find_units
from gemstead.errors import InputError

CASES = {
    ("5", "miles", "km"): "5 miles = 8.04672 kilometres",
    ("1", "mile", "kilometers"): "1 mile = 1.609344 kilometres",
    ("72", "f", "c"): "72 degrees Fahrenheit = 22.22222 degrees Celsius",
    ("100", "Celsius", "°F"): "100 degrees Celsius = 212 degrees Fahrenheit",
    ("-40", "degrees fahrenheit", "degrees C"): "-40 degrees Fahrenheit = -40 degrees Celsius",
    ("0", "K", "celcius"): "0 kelvin = -273.15 degrees Celsius",
    ("1", "oz", "ml"): "1 fluid ounce = 29.57353 millilitres",
    ("1", "oz", "g"): "1 ounce = 28.34952 grams",
    ("10", "m", "s"): "10 minutes = 600 seconds",
    ("10", "m", "ft"): "10 metres = 32.8084 feet",
    ("1", "GB", "MB"): "1 gigabyte = 1000 megabytes",
    ("8", "Mb", "MB"): "8 megabits = 1 megabyte",
    ("1", "KiB", "bytes"): "1 kibibyte = 1024 bytes",
    ("60", "miles an hour", "kph"): "60 miles per hour = 96.56064 kilometres per hour",
    ("5", "sq. ft.", "square metres"): "5 square feet = 0.4645152 square metres",
    ("3", "feet squared", "m2"): "3 square feet = 0.2787091 square metres",
    ("1", "year", "days"): "1 year = 365 days",
    ("1", "kWh", "kJ"): "1 kilowatt-hour = 3600 kilojoules",
    ("1", "atm", "kPa"): "1 atmosphere = 101.325 kilopascals",
    ("5", "kilometes", "MILES"): "5 kilometres = 3.106856 miles",
    ("180", "degrees", "radians"): "180 degrees = 3.141593 radians",
}


@pytest.mark.parametrize(("arguments", "expected"), CASES.items())
def test_conversion(arguments: tuple[str, str, str], expected: str) -> None:
    assert convert(Fraction(arguments[0]), *arguments[1:]) == expected


def test_unknown_unit_lists_the_kinds() -> None:
    with pytest.raises(InputError, match="unknown unit 'blargs'; known are units of length, mass"):
        convert(Fraction(1), "blargs", "m")


def test_different_kinds_are_named() -> None:
    with pytest.raises(InputError, match="miles measure length but kilograms measure mass"):
        convert(Fraction(1), "miles", "kg")


def test_every_unit_of_the_table_is_found_by_each_spelling() -> None:
    for kind, rows in _TABLE.items():
        for row in rows.strip().splitlines():
            _, names, others = (part.strip() for part in row.split("|"))
            for spelling in (*names.split("/"), *others.split()):
                assert kind in {unit.kind for unit in find_units(spelling)}, spelling
    assert len(KINDS) == 12


@given(st.integers(-(10**6), 10**6), st.sampled_from(["C", "F", "K"]), st.sampled_from(["C", "F", "K"]))
def test_temperature_there_and_back_is_exact(value: int, a: str, b: str) -> None:
    source, target = (next(u for u in find_units(x) if u.kind == "temperature") for x in (a, b))
    there = (value * source.factor + source.offset - target.offset) / target.factor
    assert (there * target.factor + target.offset - source.offset) / source.factor == value
