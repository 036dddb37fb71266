"""Gemma's tool language: values, calls' arguments and tool declarations, written as prompt pieces.

Two ways to write a declaration: as Google's templates of each generation do, quirks included, and
corrected (schema.py puts odd schemas in order first). template.py decides which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gemstead.errors import InputError
from gemstead.text.control import QUOTE
from gemstead.text.prompt import PromptWriter
from gemstead.types import Json, Tool

STANDARD_KEYS = ("description", "type", "properties", "required", "nullable")
_INT_LIMIT = 10**1000  # Python itself refuses to print integers of more than 4,300 digits
_KEY_SYNTAX = frozenset(':,{}[]"\n' + "'")


def sorted_items(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Key order of the templates: by the lower-cased key, equal ones as they came."""
    return sorted(mapping.items(), key=lambda item: str(item[0]).lower())


def write_arguments(
    out: PromptWriter, values: Mapping[str, Any], null: str, *, learned: bool = False
) -> None:
    """`{key:value,...}` with bare keys, as in calls and responses."""
    out.text("{", learned=learned)
    for index, (key, value) in enumerate(sorted_items(values)):
        out.text("," if index else "", learned=learned)
        _write_key(out, str(key), learned)
        out.text(":", learned=learned)
        write_value(out, value, null, learned=learned)
    out.text("}", learned=learned)


def write_value(
    out: PromptWriter, value: Json, null: str, *, quote_keys: bool = False, learned: bool = False
) -> None:
    """One JSON value: strings between delimiter tokens and unescaped, everything else bare."""
    if isinstance(value, str):
        out.quoted(value, learned=learned)
    elif isinstance(value, Mapping) and not quote_keys:
        write_arguments(out, value, null, learned=learned)
    elif isinstance(value, Mapping):
        out.text("{", learned=learned)
        for index, (key, inner) in enumerate(sorted_items(value)):
            out.text("," if index else "", learned=learned)
            out.quoted(str(key), learned=learned)
            out.text(":", learned=learned)
            write_value(out, inner, null, quote_keys=True, learned=learned)
        out.text("}", learned=learned)
    elif isinstance(value, (list, tuple)):
        out.text("[", learned=learned)
        for index, inner in enumerate(value):
            out.text("," if index else "", learned=learned)
            write_value(out, inner, null, quote_keys=quote_keys, learned=learned)
        out.text("]", learned=learned)
    else:
        out.text(_scalar(value, null), learned=learned)


def write_declaration(out: PromptWriter, tool: Tool, generation: str, null: str) -> None:
    """`declaration:NAME{...}` as Google's template of this generation prints it."""
    out.text(f"declaration:{tool.name}{{description:")
    out.quoted(tool.description)
    parameters = tool.parameters
    if parameters:
        out.text(",parameters:{")
        if parameters.get("properties"):
            out.text("properties:{")
            write = _properties_v1 if generation == "v1" else _properties_v2
            write(out, _mapping(parameters["properties"]), null, generation != "v4")
            out.text("},")
        if parameters.get("required"):
            _write_required(out, parameters["required"])
            out.text(",")
        out.text("type:")  # Google forgets the closing brace where `type` is absent; an object it always is
        out.quoted(str(parameters.get("type") or "object").upper())
        out.text("}")
    _write_response(out, tool.response)
    out.text("}")


def write_corrected_declaration(out: PromptWriter, tool: Tool, null: str) -> None:
    """`declaration:NAME{...}` from parameters that schema.normalise() has put in order."""
    out.text(f"declaration:{tool.name}{{description:")
    out.quoted(tool.description)
    out.text(",parameters:")
    parameters = {**tool.parameters, "type": tool.parameters.get("type", "object")}
    if not parameters.get("properties"):
        parameters.pop("properties", None)
    _write_schema(out, parameters, null)
    _write_response(out, tool.response)
    out.text("}")


def _write_response(out: PromptWriter, response: Mapping[str, Any] | None) -> None:
    if response is None:
        return
    out.text(",response:{")
    if response.get("description"):
        out.text("description:")
        out.quoted(str(response["description"]))
        out.text(",")
    out.text("type:")  # Google prints only OBJECT here, and no closing brace for anything else
    out.quoted(str(response.get("type") or "object").upper())
    out.text("}")


def _write_schema(out: PromptWriter, schema: Mapping[str, Any], null: str) -> None:
    """One normalised schema, at any depth, keys in Google's order."""
    out.text("{")
    first = True
    for key in ("description", "enum", "items", "nullable", "properties", "required", "type"):
        value = schema.get(key)
        if value is None or (value in ("", [], False) and key != "properties"):
            continue
        out.text(f"{key}:" if first else f",{key}:")
        first = False
        if key == "items":
            _write_schema(out, value, null)
        elif key == "properties":
            out.text("{")
            for index, (name, inner) in enumerate(sorted_items(value)):
                out.text("," if index else "")
                _write_key(out, str(name), False)
                out.text(":")
                _write_schema(out, inner, null)
            out.text("}")
        elif key == "type":
            write_value(out, _upper(value), null)
        else:
            write_value(out, value, null, quote_keys=True)
    out.text("}")


def _properties_v2(out: PromptWriter, properties: Mapping[str, Any], null: str, filtered: bool) -> None:
    """Properties as v2 (standard keys skipped as names, everywhere) and v4 print them."""
    shown = [item for item in sorted_items(properties) if not (filtered and item[0] in STANDARD_KEYS)]
    v2 = filtered
    for index, (name, raw) in enumerate(shown):
        schema = _mapping(raw)
        kind = str(schema.get("type", "")).upper()
        out.text(f",{name}:{{" if index else f"{name}:{{")
        if schema.get("description"):
            out.text("description:")
            out.quoted(str(schema["description"]))
            out.text(",")
        if kind == "STRING" and schema.get("enum"):
            out.text("enum:")
            write_value(out, schema["enum"], null, quote_keys=True)
            out.text(",")
        if kind == "ARRAY" and isinstance(schema.get("items"), Mapping) and schema["items"]:
            _write_items(out, schema["items"], null, v2)
            out.text(",")
        if schema.get("nullable"):
            out.text("nullable:true,")
        if kind == "OBJECT":
            inner = schema.get("properties")
            out.text("properties:{")
            if isinstance(inner, Mapping):
                _properties_v2(out, inner, null, v2)
            else:  # Google takes the schema's own other keywords for properties
                _properties_v2(out, _without_standard(schema), null, v2)
            out.text("},")
            if schema.get("required"):
                _write_required(out, schema["required"])
                out.text(",")
        out.text("type:")
        out.quoted(kind)
        out.text("}")


def _properties_v1(out: PromptWriter, properties: Mapping[str, Any], null: str, _: bool = True) -> None:
    """Properties as the launch template prints them, with its missing and surplus commas."""
    shown = [item for item in sorted_items(properties) if item[0] not in STANDARD_KEYS]
    for index, (name, raw) in enumerate(shown):
        schema = _mapping(raw)
        kind = str(schema.get("type", "")).upper()
        out.text(f",{name}:{{" if index else f"{name}:{{")
        comma = ""
        if schema.get("description"):
            out.text("description:")
            out.quoted(str(schema["description"]))
            comma = ","
        if schema.get("nullable"):
            out.text(f"{comma}nullable:true")
            comma = ","
        if kind == "STRING" and schema.get("enum"):
            out.text(f"{comma}enum:")
            write_value(out, schema["enum"], null, quote_keys=True)
            comma = ","
        elif kind == "OBJECT":
            inner = schema.get("properties")
            out.text(",properties:{")
            _properties_v1(out, inner if isinstance(inner, Mapping) else schema, null)
            out.text("}")
            if schema.get("required"):
                out.text(",")
                _write_required(out, schema["required"])
        elif kind == "ARRAY" and isinstance(schema.get("items"), Mapping) and schema["items"]:
            out.text(",")
            _write_items(out, schema["items"], null, None)
        out.text(f"{comma}type:")
        out.quoted(kind)
        out.text("}")


def _write_items(out: PromptWriter, items: Mapping[str, Any], null: str, v2: bool | None) -> None:
    """`items:{...}` with every keyword of the schema, alphabetically; `v2` None means v1."""
    out.text("items:{")
    shown = [item for item in sorted_items(items) if item[1] is not None]
    for index, (key, value) in enumerate(shown):
        out.text("," if index else "")
        if key == "properties":
            out.text("properties:{")
            if isinstance(value, Mapping):
                if v2 is None:
                    _properties_v1(out, value, null)
                else:
                    _properties_v2(out, value, null, v2)
            out.text("}")
        elif key == "required":
            _write_required(out, value)
        elif key == "type":
            out.text("type:")
            write_value(out, _upper(value), null)
        else:
            out.text(f"{key}:")
            write_value(out, value, null, quote_keys=True)
    out.text("}")


def _write_required(out: PromptWriter, names: object) -> None:
    out.text("required:[")
    for index, name in enumerate(names if isinstance(names, (list, tuple)) else ()):
        out.text("," if index else "")
        out.quoted(str(name))
    out.text("]")


def is_bare_key(key: str) -> bool:
    """Whether a key without quotes around it can be read back."""
    return bool(key) and key == key.strip() and not _KEY_SYNTAX & set(key) and QUOTE not in key


def _write_key(out: PromptWriter, key: str, learned: bool) -> None:
    """A bare key, or a quoted one where bare it could not be read back (Google always writes it bare)."""
    if is_bare_key(key):
        out.text(key, learned=learned)
    else:
        out.quoted(key, learned=learned)


def _scalar(value: object, null: str) -> str:
    if value is None:
        return null
    if isinstance(value, bool):
        return "true" if value else "false"
    if (isinstance(value, int) and abs(value) < _INT_LIMIT) or (
        isinstance(value, float) and math.isfinite(value)
    ):
        return repr(value)
    shown = "an integer of more than 1000 digits" if isinstance(value, int) else f"{value!r:.60}"
    raise InputError(
        f"cannot write {shown} ({type(value).__name__}) into the prompt; "
        "allowed are JSON values: text, finite numbers, true, false, null, arrays, objects"
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _upper(value: object) -> Json:
    return [str(v).upper() for v in value] if isinstance(value, (list, tuple)) else str(value).upper()


def _without_standard(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in STANDARD_KEYS}
