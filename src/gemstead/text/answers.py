"""What a visible answer may be, as a grammar: a JSON Schema, a regular expression, Lark text, choices.

A JSON Schema goes to llguidance's own compiler of JSON, once every keyword in it is one that compiler
honours; any other is an InputError that names it and its place. Formats mean what patterns.py says, in
answers as in calls. Neighbours: grammar.py (calls); the engine's grammar.py compiles the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gemstead.errors import InputError
from gemstead.text.patterns import FORMATS, check_format, plain_classes, regex_literal, text_literal
from gemstead.text.unions import KNOWN, TYPES, says_nothing

# Blanks are free but few: a small model could write them without end.
_OPTIONS = {"whitespace_pattern": r"[ \n]{0,8}"}
_KNOWN = KNOWN | {"patternProperties", "minProperties", "maxProperties", "additionalItems"}
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "additionalItems")


def answer_grammar(kind: str, value: Any) -> str:
    """The grammar of an answer of this kind (see types.OutputFormat); InputError for what it cannot hold."""
    if kind == "json_schema":
        if value is False:
            raise InputError("the JSON Schema of the answer is false, which no answer fits; give another")
        try:
            schema = {} if value is True else _prepared(value, "the answer")
            return f"start: %json {json.dumps({**schema, 'x-guidance': _OPTIONS})}\n"
        except RecursionError:
            raise InputError("the JSON Schema of the answer is nested too deeply") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"the JSON Schema of the answer is not JSON: {error}") from error
    if kind == "regex":
        return f"start: {regex_literal(value)}\n"
    if kind == "choice":
        return "start: " + " | ".join(map(text_literal, value))
    return str(value)


def _prepared(schema: Any, where: str) -> Any:
    """The same schema with formats as patterns, at any depth; InputError for a keyword not honoured."""
    if not isinstance(schema, Mapping):
        if isinstance(schema, bool):
            return schema
        raise InputError(f"{where}: a JSON Schema is an object, true or false, not {schema!r:.60}")
    schema = {key: value for key, value in schema.items() if not says_nothing(key, value)}
    unknown = [key for key in schema if key not in _KNOWN and not str(key).startswith("x-")]
    if unknown:
        raise InputError(
            f"{where} uses {', '.join(map(repr, unknown))}, which constrained output cannot guarantee; "
            f"leave it out. Known are {', '.join(sorted(_KNOWN))}"
        )
    kinds = schema.get("type", ())
    wrong = [x for x in ([kinds] if isinstance(kinds, str) else kinds) if x not in TYPES]
    if wrong:
        raise InputError(f"{where} has the type {wrong[0]!r}; allowed are {', '.join(TYPES)}")
    result = {key: _below(key, value, where) for key, value in schema.items() if key != "format"}
    if isinstance(schema.get("pattern"), str):
        result["pattern"] = plain_classes(schema["pattern"])
    if "format" in schema:
        check_format(schema["format"], where)
        pattern = f"^({FORMATS[schema['format']]})$"
        both = "pattern" in result or "enum" in result or "const" in result
        also = [*result.get("allOf", ()), {"pattern": pattern}]
        result = {**result, "allOf": also} if both else {**result, "pattern": pattern}
    return result


def _below(key: str, value: Any, where: str) -> Any:
    """What a keyword holds, schemas in it prepared."""
    if key in _NAMED and isinstance(value, Mapping):
        return {name: _prepared(inner, f"{where}.{name}") for name, inner in value.items()}
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if is_list and (key in _LISTED or key == "items"):  # a list of items is what prefixItems once was
        return [_prepared(inner, f"{where}[{i}]") for i, inner in enumerate(value)]
    return _prepared(value, f"{where}[]") if key in _SINGLE else value
