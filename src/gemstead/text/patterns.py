"""Strings and numbers of a JSON Schema as terminals of a Lark grammar: patterns, lengths, formats, ranges.

Regular expressions are those of llguidance (no look-around, no back-references). An InputError names what
cannot be guaranteed. Used by grammar.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gemstead.errors import InputError

_MONTHS = "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
_DATE = f"[0-9]{{4}}-({_MONTHS}|02-(0[1-9]|1[0-9]|2[0-8]))"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
_FORMATS: Mapping[str, str] = {
    "date": _DATE,
    "time": _CLOCK,
    "date-time": f"{_DATE}T{_CLOCK}",
    "duration": "P([0-9]{1,4}Y)?([0-9]{1,2}M)?[0-9]{1,3}D(T[0-9]{1,2}H([0-9]{1,2}M)?)?",
    "email": f"[A-Za-z0-9_+-]{{1,40}}([.][A-Za-z0-9_+-]{{1,20}}){{0,3}}@{_LABEL}([.]{_LABEL}){{1,3}}",
    "hostname": f"{_LABEL}([.]{_LABEL}){{0,4}}",
    "ipv4": f"{_BYTE}([.]{_BYTE}){{3}}",
    "ipv6": "[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "uri": f"https?://{_LABEL}([.]{_LABEL}){{0,4}}(:[1-9][0-9]{{0,3}})?(/[A-Za-z0-9._~%-]{{0,80}}){{0,8}}",
}
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def string_rule(schema: Mapping[str, Any], where: str) -> str | None:
    """A terminal's body for the text of such a string; None: any text. May match the empty text."""
    parts = []
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least or most is not None:
        if most is not None and most < least:
            raise InputError(f"{where} needs {least} characters but allows only {most}")
        parts.append(f"(?s:.){{{int(least)},{'' if most is None else int(most)}}}")
    if "format" in schema:
        name = schema["format"]
        if name not in _FORMATS:
            raise InputError(
                f"{where} has the format {name!r}, which constrained output cannot guarantee; known are "
                f"{', '.join(_FORMATS)}"
            )
        parts.append(_FORMATS[name])
    if "pattern" in schema:
        parts.append(_whole(str(schema["pattern"])))
    if not parts:
        return None
    return " & ".join("/" + part.replace("/", r"\/") + "/" for part in parts)


def number_rule(kind: str, schema: Mapping[str, Any], where: str) -> str:
    """An expression for such a number; 15 digits before and after the point at most."""
    limits = {key: schema[key] for key in _LIMITS if key in schema}
    if limits:
        wrong = [k for k, v in limits.items() if isinstance(v, bool) or not isinstance(v, int | float)]
        if wrong:
            raise InputError(f"{where} has {wrong[0]} = {limits[wrong[0]]!r}; a number is needed")
        return f"%json {json.dumps({'type': kind, **limits})}"
    return "/-?(0|[1-9][0-9]{0,14})/" if kind == "integer" else "NUMBER"


def _whole(pattern: str) -> str:
    """A pattern that is searched for, as one that must match the whole text."""
    branches = [_anchored(branch) for branch in _branches(_plain_classes(pattern))]
    return branches[0] if len(branches) == 1 else "(" + "|".join(f"({branch})" for branch in branches) + ")"


def _plain_classes(pattern: str) -> str:
    r"""\d and \w as JSON Schema's expressions mean them: ASCII only."""
    out, in_class, at = "", False, 0
    while at < len(pattern):
        two = pattern[at : at + 2]
        if two in (r"\d", r"\w"):
            inner = "0-9" if two == r"\d" else "A-Za-z0-9_"
            out, at = out + (inner if in_class else f"[{inner}]"), at + 2
            continue
        step = two if two.startswith("\\") else pattern[at]
        in_class = (in_class or step == "[") and step != "]"
        out, at = out + step, at + len(step)
    return out


def _anchored(branch: str) -> str:
    starts, ends = branch.startswith("^"), branch.endswith("$") and not _is_escaped(branch, len(branch) - 1)
    inner = branch[1 if starts else 0 : len(branch) - 1 if ends else len(branch)]
    return ("" if starts else "(?s:.*)") + f"({inner})" + ("" if ends else "(?s:.*)")


def _is_escaped(text: str, at: int) -> bool:
    before = text[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _branches(pattern: str) -> list[str]:
    """The alternatives of a pattern, split where no bracket is open."""
    out, depth, in_class, start = [], 0, False, 0
    for at, character in enumerate(pattern):
        if _is_escaped(pattern, at):
            continue
        if in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and depth == 0:
            out.append(pattern[start:at])
            start = at + 1
    return [*out, pattern[start:]]
