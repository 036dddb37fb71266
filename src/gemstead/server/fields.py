"""The request fields of each API: what is taken, what is checked, what is refused and why.

One table per endpoint; parsing walks it and so does the page of the docs (docs/generate.py). A field
that is in no table is a 400 naming it. Neighbours: openai.py, anthropic.py, ollama.py hold the tables.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gemstead.server.refusals import Refusal, wrong

Value = TypeVar("Value")


@dataclass(frozen=True)
class Check(Generic[Value]):
    """Called with a value and its name, gives the value as it is used, or a Refusal.

    `schema` says to programs what JSON Schema can say of it (openapi.py); None: it is always refused.
    """

    apply: Callable[[Any, str], Value]
    schema: Mapping[str, Any] | None

    def __call__(self, value: Any, where: str) -> Value:
        return self.apply(value, where)


def said_as(schema: Mapping[str, Any] | None) -> Callable[[Callable[[Any, str], Value]], Check[Value]]:
    """A function becomes a check of that schema."""
    return lambda apply: Check(apply, schema)


_UNITS_S = {"": 1, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(-?)((?:[0-9]+(?:\.[0-9]*)?(?:ms|s|m|h))+|[0-9]+(?:\.[0-9]*)?)")
_DURATION_PART = re.compile(r"([0-9.]+)(ms|s|m|h|)")
_LONGEST_S = 1e8  # three years: for ever


@dataclass(frozen=True)
class Field:
    """One field: `check` returns its value or refuses it; `about` is its line in the docs."""

    check: Check[Any]
    about: str


def silent(check: Check[Any], why: str) -> Field:
    """A field that is checked and does nothing here, and why that is right."""
    return Field(check, f"taken, without effect: {why}")


@said_as({})
def anything(value: Any, where: str) -> Any:  # noqa: ARG001
    """Whatever was sent; checked later, or without effect."""
    return value


def shaped(schema: Mapping[str, Any]) -> Check[Any]:
    """Whatever was sent; checked later, and said to programs to be like this."""
    return Check(anything, schema)


@said_as({"type": "string"})
def text(value: Any, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise wrong(where, f"{where} is {_kind(value)}; give a string")
    return value


@said_as({"type": "boolean"})
def flag(value: Any, where: str) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise wrong(where, f"{where} is {_kind(value)}; give true or false")
    return value


def whole(low: int, high: int) -> Check[int]:
    """A whole number in a range."""

    @said_as({"type": "integer", "minimum": low, "maximum": high})
    def check(value: Any, where: str) -> int:
        is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not is_whole or not low <= value <= high:
            raise wrong(where, f"{where} is {_shown(value)}; give a whole number from {low} to {high}")
        return int(value)

    return check


def number(low: float, high: float) -> Check[float]:
    """A number in a range."""

    @said_as({"type": "number", "minimum": low, "maximum": high})
    def check(value: Any, where: str) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not low <= value <= high:
            raise wrong(where, f"{where} is {_shown(value)}; give a number from {low:g} to {high:g}")
        return float(value)

    return check


def one_of(*allowed: str) -> Check[Any]:
    """One of some words."""

    @said_as({"enum": [*allowed]})
    def check(value: Any, where: str) -> str:
        if value not in allowed or not isinstance(value, str):
            raise wrong(where, f"{where} is {_shown(value)}; allowed are {', '.join(allowed)}")
        return value

    return check


def texts(most: int) -> Check[tuple[str, ...]]:
    """A string or a list of up to `most`: always a tuple."""

    @said_as({"type": ["string", "array"], "items": {"type": "string", "minLength": 1}, "maxItems": most})
    def check(value: Any, where: str) -> tuple[str, ...]:
        listed = [value] if isinstance(value, str) else value
        if isinstance(listed, list) and len(listed) > most:
            raise wrong(where, f"{where} holds {len(listed)} strings; give up to {most}")
        if not isinstance(listed, list) or not all(isinstance(x, str) for x in listed):
            raise wrong(where, f"{where} is {_shown(value)}; give a string or a list of up to {most} strings")
        if not all(listed):
            raise wrong(where, f"{where} holds an empty string")
        return tuple(listed)

    return check


@said_as({"type": ["string", "number"]})
def seconds(value: Any, where: str) -> float:
    """A duration as Ollama takes it: seconds, or a string such as 5m or 1h30m; infinity for any below 0."""
    number_ = value
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise wrong(
                where, f"{where} is {_shown(value)}; give seconds, or a duration such as 5m, 1h30m or -1"
            )
        number_ = sum(float(n) * _UNITS_S[unit] for n, unit in _DURATION_PART.findall(match[2]))
        number_ = -number_ - 1 if match[1] else number_
    if isinstance(number_, bool) or not isinstance(number_, int | float) or math.isnan(number_):
        raise wrong(where, f"{where} is {_kind(value)}; give seconds, or a duration such as 5m")
    return math.inf if number_ < 0 or number_ > _LONGEST_S else float(number_)


def objects(
    most: int, table: Mapping[str, Field] | None = None, needed: tuple[str, ...] = (), *, least: int = 0
) -> Check[list[dict[str, Any]]]:
    """A list of `least` to `most` objects; with `table`, each is read by it afterwards."""
    item = {"type": "object"} if table is None else schema_of(table, needed)

    @said_as({"type": "array", "items": item, "minItems": least, "maxItems": most})
    def check(value: Any, where: str) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(x, dict) for x in value):
            raise wrong(where, f"{where} is {_kind(value)}; give a list of objects")
        if len(value) > most:
            raise wrong(where, f"{where} holds {len(value):,} entries; {most:,} at most")
        if len(value) < least:
            raise wrong(where, f"{where} is empty; give at least one")
        return value

    return check


@said_as({"type": "object"})
def record(value: Any, where: str) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise wrong(where, f"{where} is {_kind(value)}; give an object")
    return value


def only(*allowed: Any) -> Check[Any]:
    """A field that has just these values here, and none of them does anything."""

    @said_as({"enum": [*allowed]})
    def check(value: Any, where: str) -> Any:
        if not any(value == x and isinstance(value, bool) is isinstance(x, bool) for x in allowed):
            shown = ", ".join(_shown(x) for x in allowed)
            raise wrong(where, f"{where} is {_shown(value)}; this server takes only {shown}, or leave it out")
        return value

    return check


def refused(advice: str) -> Check[Any]:
    """A field that cannot be honoured."""

    @said_as(None)
    def check(value: Any, where: str) -> Any:  # noqa: ARG001
        raise Refusal(400, f"{where} is not supported here: {advice}", param=where, code="unsupported_field")

    return check


def read(body: Mapping[str, Any], table: Mapping[str, Field], where: str = "") -> dict[str, Any]:
    """The checked values of the fields that were given and are not null; unknown ones are refused by name."""
    unknown = sorted(set(body) - set(table))
    if unknown:
        named = ", ".join(f"{where}{name}"[:80] for name in unknown[:5])
        raise Refusal(
            400, f"unknown field {named}; known are {', '.join(table)}", param=f"{where}{unknown[0]}"[:80],
            code="unknown_field",
        )  # fmt: skip
    return {
        name: table[name].check(value, f"{where}{name}") for name, value in body.items() if value is not None
    }


def check_names(names: Iterable[str], known: Collection[str], where: str) -> None:
    """A Refusal for a name that is not known, of objects whose kind decides what they hold."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise wrong(where + unknown[0][:40], f"unknown field {where}{unknown[0][:40]}")


def inner(table: Mapping[str, Field], needed: tuple[str, ...] = ()) -> Check[dict[str, Any]]:
    """An object that is read by `table` afterwards."""
    return Check(record, schema_of(table, needed))


def need(given: Mapping[str, Any], name: str, where: str = "") -> Any:
    """A field that must be there."""
    if name not in given:
        raise Refusal(400, f"{where}{name} is missing", param=f"{where}{name}", code="missing_field")
    return given[name]


def schema_of(table: Mapping[str, Field], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """The table as a JSON Schema. A field that need not be there may be null, which is as if it were not."""
    properties = {}
    for name, field in table.items():
        if field.check.schema is not None:
            schema = dict(field.check.schema) if name in needed else _or_null(field.check.schema)
            properties[name] = {**schema, **({"description": field.about} if field.about else {})}
    required = {"required": [*needed]} if needed else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **required}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    wider = dict(schema)
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        wider["type"] = [*kinds, "null"]
    if "enum" in schema:
        wider["enum"] = [*schema["enum"], None]
    return wider


def docs_table(table: Mapping[str, Field]) -> str:
    """The table as Markdown."""
    rows = [f"| `{name}` | {field.about} |" for name, field in table.items()]
    return "\n".join(["| field | what it does |", "| --- | --- |", *rows])


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    """A value as the client wrote it, if short and plain; otherwise its kind."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else "a long string"
    plain = value is None or isinstance(value, bool | int | float)
    shown = json.dumps(value) if plain or isinstance(value, list) else ""
    return shown if 0 < len(shown) <= 80 else _kind(value)
