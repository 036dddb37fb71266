"""The calendar: reading dates, moving them, counting between them."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemstead.agent.dates import between, compute, parse_date, shift
from gemstead.errors import InputError

TODAY = date(2026, 11, 24)  # a Tuesday
DAYS = st.dates(date(1700, 1, 1), date(2300, 12, 31))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-01", "2024-03-01"),
        ("2024-3-1", "2024-03-01"),
        ("2024/03/01", "2024-03-01"),
        ("today", "2026-11-24"),
        ("Tomorrow", "2026-11-25"),
        ("yesterday", "2026-11-23"),
        ("12-25", "2026-12-25"),
        ("01-05", "2027-01-05"),
        ("11-24", "2026-11-24"),
        ("02-29", "2028-02-29"),
        ("friday", "2026-11-27"),
        ("next Tuesday", "2026-12-01"),
        ("last tuesday", "2026-11-17"),
        ("March 3rd, 2024", "2024-03-03"),
        ("the 3rd of mar 2024", "2024-03-03"),
        ("Christmas", "2026-12-25"),
        ("New Year's Eve", "2026-12-31"),
    ],
)
def test_parse(text: str, expected: str) -> None:
    assert parse_date(text, TODAY).isoformat() == expected


@pytest.mark.parametrize(
    "text", ["", "2023-02-29", "2024-13-01", "soon", "0000-01-01", "13-45", "march march 3"]
)
def test_unreadable_dates_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_date(text, TODAY)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("add", "2024-03-03", 45, "days", None), "Wednesday, 17 April 2024 (2024-04-17)"),
        (("subtract", "today", 3, "weeks", None), "Tuesday, 3 November 2026 (2026-11-03)"),
        (("add", "2024-01-31", 1, "month", None), "Thursday, 29 February 2024 (2024-02-29)"),
        (("add", "2024-02-29", 1, "years", None), "Friday, 28 February 2025 (2025-02-28)"),
        (("add", "2024-01-31", 10, "workdays", None), "Wednesday, 14 February 2024 (2024-02-14)"),
        (("add", "2026-11-28", 1, "workdays", None), "Monday, 30 November 2026 (2026-11-30)"),
        (("difference", "today", None, "days", "12-25"), "31 days (2026-11-24 to 2026-12-25)"),
        (
            ("difference", "2026-12-25", None, "weeks", "today"),
            "4 weeks and 3 days (2026-12-25 to 2026-11-24)",
        ),
        (
            ("difference", "1990-05-12", None, "years", None),
            "36 years, 6 months and 12 days (1990-05-12 to 2026-11-24)",
        ),
        (
            ("difference", "2024-01-01", None, "workdays", "2024-01-31"),
            "22 workdays (2024-01-01 to 2024-01-31)",
        ),
        (("weekday", "today", None, "days", None), "Tuesday, 24 November 2026 (2026-11-24)"),
    ],
)
def test_compute(arguments: tuple[str, str, int | None, str, str | None], expected: str) -> None:
    operation, day, amount, unit, other = arguments
    assert compute(operation, day, amount, unit, other, today=TODAY) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("multiply", "today", 1, "days", None),
        ("add", "today", None, "days", None),
        ("add", "today", 1, "minutes", None),
        ("add", "today", 10**12, "days", None),
        ("subtract", "0001-01-01", 1, "years", None),
    ],
)
def test_refusals(arguments: tuple[str, str, int | None, str, str | None]) -> None:
    operation, day, amount, unit, other = arguments
    with pytest.raises(InputError):
        compute(operation, day, amount, unit, other, today=TODAY)


@given(DAYS, st.integers(-3000, 3000))
def test_days_and_back(day: date, amount: int) -> None:
    moved = shift(day, amount, "days")
    assert between(day, moved, "days").split()[0] == str(abs(amount))
    assert shift(moved, -amount, "days") == day


@given(DAYS, st.integers(0, 400))
def test_workdays_never_end_on_a_weekend(day: date, amount: int) -> None:
    moved = shift(day, amount, "workdays")
    assert amount == 0 or moved.weekday() < 5
    walked, left = day, amount
    while left:
        walked += timedelta(days=1)
        left -= walked.weekday() < 5
    assert moved == walked
