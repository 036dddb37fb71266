"""The built-in tools: declarations that fit their functions, exact text results."""

import inspect
from datetime import date

import pytest

from gemstead.agent import tools
from gemstead.errors import InputError


def test_declared_arguments_are_the_functions_arguments() -> None:
    for tool in tools.BUILT_IN:
        assert tool.function is not None
        signature = inspect.signature(tool.function).parameters
        assert set(tool.parameters["properties"]) == set(signature)
        needed = {name for name, p in signature.items() if p.default is inspect.Parameter.empty}
        assert needed <= set(tool.parameters["required"])


def test_values_keep_their_written_digits() -> None:
    assert tools.convert_units(0.1, "m", "cm") == "0.1 metres = 10 centimetres"
    assert tools.convert_units("1,500", "m", "km") == "1500 metres = 1.5 kilometres"
    assert tools.calculator("0.1 + 0.2") == "0.3"


def test_date_math_counts_from_this_machines_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_today", lambda: date(2026, 11, 24))
    assert tools.date_math("weekday") == "Tuesday, 24 November 2026 (2026-11-24)"
    assert tools.date_math("add", "today", 7.0) == "Tuesday, 1 December 2026 (2026-12-01)"


@pytest.mark.parametrize("value", [True, None, "abc", float("nan")])
def test_values_that_are_no_numbers_are_refused(value: object) -> None:
    with pytest.raises(InputError):
        tools.convert_units(value, "m", "cm")  # type: ignore[arg-type]


def test_half_days_are_refused() -> None:
    with pytest.raises(InputError, match="whole number"):
        tools.date_math("add", "2024-01-01", 1.5)
