"""Strings and numbers of a JSON Schema as terminals of a Lark grammar: patterns, lengths, formats, ranges.

Regular expressions are those of llguidance (no look-around, no back-references). An InputError names what
cannot be guaranteed. Used by grammar.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from gemstead.errors import InputError

_YEAR = "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"  # there was no year 0
_LEAP = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_MONTHS = "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
_DATE = f"({_YEAR}-({_MONTHS}|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_DAYS, _SECONDS = "[0-9]{1,4}D", "[0-9]{1,4}S"
_OF_MONTHS, _OF_MINUTES = f"[0-9]{{1,4}}M({_DAYS})?", f"[0-9]{{1,4}}M({_SECONDS})?"
_SPAN = f"([0-9]{{1,4}}Y({_OF_MONTHS})?|{_OF_MONTHS}|{_DAYS})"
_SPAN_OF_TIME = f"T([0-9]{{1,4}}H({_OF_MINUTES})?|{_OF_MINUTES}|{_SECONDS})"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = f"{_BYTE}([.]{_BYTE}){{3}}"
_GROUP = "[0-9A-Fa-f]{1,4}"
_SHORTENED = "|".join(f"({_GROUP}:){{1,{7 - n}}}(:{_GROUP}){{1,{n}}}" for n in range(1, 7))
_IPV6 = f"(({_GROUP}:){{7}}{_GROUP}|{_SHORTENED}|({_GROUP}:){{1,7}}:|:(:{_GROUP}){{1,7}}|::)"
# No two hyphens together: a name with xn-- would have to be a valid international one.
_LABEL = "[A-Za-z0-9]{1,16}(-[A-Za-z0-9]{1,14}){0,3}"
_HOST = f"{_LABEL}([.]{_LABEL}){{0,3}}"
_CHARACTER = "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_URI = (
    f"[A-Za-z][A-Za-z0-9+.-]{{0,20}}:(//({_HOST}|\\[{_IPV6}\\])(:[0-9]{{1,5}})?(/{_CHARACTER}*)*"
    f"|/?{_CHARACTER}+(/{_CHARACTER}*)*)([?]({_CHARACTER}|[/?])*)?(#({_CHARACTER}|[/?])*)?"
)
FORMATS: Mapping[str, str] = {
    "date": _DATE,
    "time": _CLOCK,
    "date-time": f"{_DATE}T{_CLOCK}",
    "duration": f"P({_SPAN}({_SPAN_OF_TIME})?|{_SPAN_OF_TIME}|[0-9]{{1,4}}W)",
    "email": f"[A-Za-z0-9_+-]{{1,40}}([.][A-Za-z0-9_+-]{{1,20}}){{0,3}}@{_LABEL}([.]{_LABEL}){{1,3}}",
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uuid": "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}",
    "uri": _URI,
}
"""For each format an expression of the texts that may be written: never more than the format allows."""
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
        check_format(schema["format"], where)
        parts.append(FORMATS[schema["format"]])
    if "pattern" in schema:
        parts.append(_whole(str(schema["pattern"])))
    if not parts:
        return None
    return " & ".join(map(regex_literal, parts))


def check_format(name: Any, where: str) -> None:
    """InputError for a format that is not in FORMATS."""
    if not isinstance(name, str) or name not in FORMATS:
        raise InputError(
            f"{where} has the format {name!r}, which constrained output cannot guarantee; known are "
            f"{', '.join(FORMATS)}"
        )


def text_literal(text: str) -> str:
    """A text as a literal of the grammar language, which takes every character but DEL as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def regex_literal(pattern: str) -> str:
    """A regular expression between slashes, as Lark writes it."""
    spelled = {"/": r"\/", "\n": r"\n"}
    return "/" + re.sub(r"\\.|/|\n", lambda found: spelled.get(found[0], found[0]), pattern) + "/"


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
    branches = [_anchored(plain_classes(branch)) for branch in _branches(pattern)]
    return branches[0] if len(branches) == 1 else "(" + "|".join(f"({branch})" for branch in branches) + ")"


# What these classes hold in every dialect, and what they hold in any: ECMAScript's, whose expressions JSON
# Schema's are, and Python's, whose jsonschema often has the last word. What stands between the brackets.
_CLASSES: Mapping[str, tuple[str, str]] = {
    "d": ("0-9", r"\p{Nd}"),
    "w": ("A-Za-z0-9_", r"\p{L}\p{M}\p{N}\p{Pc}\u{200c}\u{200d}"),
    "s": (r"\t\n\x0b\x0c\r\p{Zs}", r"\t\n\x0b\x0c\r\x1c-\x1f\x85\u{feff}\u{2028}\u{2029}\p{Zs}"),
}


def plain_classes(pattern: str) -> str:
    """The classes that dialects take differently, spelled out so that they allow what all of them do.

    To the compiler brackets inside brackets are a union, and doubled signs there are operators.
    """
    out, at, in_class, is_negated = "", 0, False, False
    while at < len(pattern):
        step = pattern[at : at + 2] if pattern[at] == "\\" else pattern[at]
        at += len(step)
        sets = _CLASSES.get(step[1:].lower()) if step[0] == "\\" else None
        if sets is not None:
            inverted = step[1].isupper()
            inner = sets[inverted != (in_class and is_negated)]
            out += inner if in_class and not inverted else f"[{'^' * inverted}{inner}]"
        elif in_class and (step in "[&~" or (step == "-" and out.endswith("-"))):
            out += "\\" + step
        else:
            if step == "[":
                in_class, is_negated = True, pattern.startswith("^", at)
            in_class = in_class and step != "]"
            out += step
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
