"""Tool schemas as a grammar of Gemma's call syntax: what may stand between <|tool_call> and <tool_call|>.

Writes Lark text for llguidance, one rule per schema; everything it lets through parses and is valid under
the schema. A keyword it cannot honour is an InputError that names it. Properties come in the order the
template writes them. Neighbours: patterns.py (strings and numbers), declare.py (the same syntax, written),
calls.py (read back); the engine's grammar.py compiles the text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gemstead.errors import InputError
from gemstead.text.calls import read_calls
from gemstead.text.control import ControlIds
from gemstead.text.declare import is_bare_key, sorted_items
from gemstead.text.patterns import number_rule, string_rule, text_literal
from gemstead.text.unions import (
    Schema,
    alternatives,
    check_keywords,
    equal,
    implied_types,
    merged,
    resolve,
    within,
)
from gemstead.types import Tool

_ANY = """any: string | NUMBER | "true" | "false" | "null" | any_list | any_object
any_list: "[" "]" | "[" any ("," any)* "]"
any_object: "{" "}" | "{" any_pair ("," any_pair)* "}"
any_pair: NAME ":" any
NAME: /[A-Za-z_][A-Za-z0-9_]{0,40}/
NUMBER: /-?(0|[1-9][0-9]{0,14})([.][0-9]{1,17})?([eE][+-]?[0-9]{1,2})?/"""


def call_grammar(tools: Sequence[Tool], control: ControlIds) -> str:
    """Lark text for one call of any of these tools, its closing token included.

    InputError when a schema asks for what cannot be guaranteed, and when the vocabulary has no call tokens.
    """
    if control.quote is None or control.call_close is None:
        raise InputError("this model's vocabulary has no tokens for tool calls; leave the tools out")
    _check_names(tools)
    writer = _Writer(f"<[{control.quote}]>")
    calls = []
    for tool in tools:
        try:
            body = writer.root(tool.parameters or {"type": "object"}, f"tool {tool.name}")
        except RecursionError:
            raise InputError(f"tool {tool.name} has a schema that is nested too deeply") from None
        calls.append(writer.rule(f"{text_literal('call:' + tool.name)} {body} <[{control.call_close}]>"))
    return "\n".join([f"start: {' | '.join(calls)}", *writer.lines, writer.common, _ANY, ""])


def loosened(tool: Tool, can_hold: Callable[[Tool], bool]) -> Tool:
    """The tool with as much of its schema as `can_hold` says; a property beyond that may be anything."""
    if can_hold(tool):
        return tool
    schema = tool.parameters
    inner = schema.get("properties")
    named = inner if isinstance(inner, Mapping) else {}
    shape = {key: schema[key] for key in ("$defs", "definitions") if key in schema} | {"type": "object"}

    def alone(name: str) -> Tool:
        return replace(tool, parameters={**shape, "properties": {name: named[name]}})

    kept = {name: named[name] if can_hold(alone(name)) else {} for name in named}
    more = {key: schema[key] for key in ("required", "additionalProperties") if key in schema}
    loose = replace(tool, parameters={**shape, **more, "properties": kept})
    return loose if can_hold(loose) else replace(tool, parameters={"type": "object"})


def _check_names(tools: Sequence[Tool]) -> None:
    """InputError for names that could not be read back from a call, and for one name of two tools."""
    names = [tool.name for tool in tools]
    for name in names:
        found = read_calls(f"call:{name}{{}}", closed=True)
        if found.calls != [(name, {})] or found.guesses or not name.isprintable():
            raise InputError(
                f"a tool cannot have the name {name!r}: a call could not be read back; "
                "use letters, digits, '_', '-' and '.'"
            )
        if names.count(name) > 1:
            raise InputError(f"two tools have the name {name!r}; give each its own")


class _Writer:
    """Rules in the making. `string` in a rule is any text between two quote tokens."""

    def __init__(self, quote: str) -> None:
        self.quote = quote
        self.lines: list[str] = []
        self.common = f"string: {quote} TEXT? {quote}\nTEXT: /(?s:.+)/"
        self._root: Schema = {}
        self._references: dict[str, str] = {}

    def root(self, schema: Mapping[str, Any], where: str) -> str:
        """The rule of a whole schema, in which references are looked up."""
        self._root, self._references = schema, {}
        return self.value(schema, where)

    def rule(self, body: str) -> str:
        """A new rule with this body; its name."""
        name = f"r{len(self.lines)}"
        self.lines.append(f"{name}: {body}")
        return name

    def value(self, schema: Any, where: str) -> str:
        """The name of a rule for the values a schema allows."""
        if schema is True or schema == {}:
            return "any"
        if not isinstance(schema, Mapping):
            raise InputError(f"{where} allows no value at all; leave it out of the schema")
        check_keywords(schema, where)
        if "$id" in schema and schema is not self._root:
            raise InputError(f"{where} has an '$id' of its own, which moves its references; leave it out")
        if "$ref" in schema:
            return self._reference(schema, where)
        options = alternatives(schema, self._root, where)
        if options is not None:
            return self.rule(" | ".join(self.value(option, where) for option in options))
        if "const" in schema or "enum" in schema:
            return self._choice(schema, where)
        kinds = implied_types(schema)
        if not kinds:
            return "any"
        return self.rule(" | ".join(self._of_type(kind, schema, where) for kind in kinds))

    def _reference(self, schema: Schema, where: str) -> str:
        reference = str(schema["$ref"])
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        target = resolve(reference, self._root, where)
        if rest:
            return self.value(merged(target, rest, where), where)
        if reference not in self._references:
            name = f"r{len(self.lines)}"
            self._references[reference] = name
            self.lines.append("")  # a schema may contain itself: its name stands before its body
            place = len(self.lines) - 1
            self.lines[place] = f"{name}: {self.value(target, f'{where} ({reference})')}"
        return self._references[reference]

    def _choice(self, schema: Schema, where: str) -> str:
        values = list(schema["enum"]) if "enum" in schema else [schema["const"]]
        if "const" in schema:
            values = [value for value in values if equal(value, schema["const"])]
        kinds = implied_types(schema)
        fitting = [v for v in values if not kinds or any(_is_of(v, kind) for kind in kinds)]
        fitting = [value for value in fitting if within(value, schema, where)]
        if not fitting:
            raise InputError(f"{where} allows no value: none of {values!r:.80} is what else is asked for")
        return self.rule(" | ".join(self._constant(value) for value in fitting))

    def _constant(self, value: Any) -> str:
        if isinstance(value, str):
            return self._quoted(value)
        if isinstance(value, Mapping):
            pairs = [f"{self._key(str(k))} {self._constant(v)}" for k, v in sorted_items(value)]
            return f'"{{" {_joined(pairs)} "}}"'
        if isinstance(value, list):
            return f'"[" {_joined([self._constant(v) for v in value])} "]"'
        return text_literal(json.dumps(value))

    def _of_type(self, kind: str, schema: Schema, where: str) -> str:
        if kind in ("boolean", "null"):
            return '"true" | "false"' if kind == "boolean" else '"null"'
        if kind in ("integer", "number"):
            return number_rule(kind, schema, where)
        if kind == "string":
            inner = string_rule(schema, where)
            return "string" if inner is None else f"{self.quote} {self._terminal(inner)} {self.quote}"
        if kind == "array":
            return self._array(schema, where)
        return self._object(schema, where)

    def _terminal(self, inner: str) -> str:
        """A terminal (a name in capitals) for what stands between the quotes."""
        name = f"S{len(self.lines)}"
        self.lines.append(f"{name}: {inner}")
        return name

    def _array(self, schema: Schema, where: str) -> str:
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        first = [self.value(x, f"{where}[{i}]") for i, x in enumerate(schema.get("prefixItems", ()))]
        items = schema.get("items", True)
        rest = None if items is False else self.value(items, f"{where}[]")
        longest = len(first) if rest is None else None
        most = longest if most is None else int(most) if longest is None else min(int(most), longest)
        if most is not None and most < least:
            raise InputError(f"{where} needs {least} items but allows only {most}")
        # From the back: after i items either the list ends, where it may, or one more follows.
        known = max(len(first), least) if most is None else min(max(len(first), least), most)
        tail = '""' if rest is None or most == known else self._further(rest, known, most)
        for i in range(known - 1, -1, -1):
            item = first[i] if i < len(first) else str(rest)
            comma = '"," ' if i else ""
            tail = self.rule(f"{comma}{item} {tail}" + (' | ""' if i >= least else ""))
        return f'"[" {tail} "]"'

    def _further(self, item: str, known: int, most: int | None) -> str:
        """Any number of items after the `known` first, up to `most` in all."""
        if known:
            return self.rule(f'("," {item})' + ("*" if most is None else f"{{0,{most - known}}}"))
        if most == 1:
            return self.rule(f'{item} | ""')
        more = "*" if most is None else f"{{0,{most - 1}}}"
        return self.rule(f'{item} ("," {item}){more} | ""')

    def _object(self, schema: Schema, where: str) -> str:
        required = [str(name) for name in schema.get("required", ())]
        declared = schema.get("properties", {})
        properties = {n: inner for n, inner in declared.items() if inner is not False or n in required}
        if declared and not properties and not required:
            return '"{" "}"'
        missing = [name for name in required if name not in properties]
        if missing and (properties or schema.get("additionalProperties") is False):
            raise InputError(f"{where} requires {', '.join(missing)}, which its properties do not declare")
        if not properties:
            return self._map(schema, required, where)
        # From the back: what may follow when nothing was written yet, and when something was.
        fresh, begun = '""', '""'
        for name, inner in reversed(sorted_items(properties)):
            pair = f"{self._key(name)} {self.value(inner, f'{where}.{name}')}"
            if name in required:
                fresh, begun = self.rule(f"{pair} {begun}"), self.rule(f'"," {pair} {begun}')
            else:
                fresh, begun = (
                    self.rule(f"{pair} {begun} | {fresh}"),
                    self.rule(f'"," {pair} {begun} | {begun}'),
                )
        return f'"{{" {fresh} "}}"'

    def _map(self, schema: Schema, required: Sequence[str], where: str) -> str:
        """An object whose names are the model's own."""
        inner = schema.get("additionalProperties", True)
        value = None if inner is False else self.value(inner, f"{where}.*")
        if required:
            return f'"{{" {_joined([f"{self._key(name)} {value}" for name in sorted(required)])} "}}"'
        if value is None:
            return '"{" "}"'
        pair = self.rule(f'NAME ":" {value}')
        return f'"{{" ({pair} ("," {pair})*)? "}}"'

    def _key(self, name: str) -> str:
        if is_bare_key(name):
            return text_literal(name + ":")
        return f'{self._quoted(name)} ":"'

    def _quoted(self, text: str) -> str:
        return f"{self.quote} {text_literal(text)} {self.quote}" if text else f"{self.quote} {self.quote}"


def _joined(parts: Sequence[str]) -> str:
    return ' "," '.join(parts)


def _is_of(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    kinds: dict[str, Any] = {
        "string": str,
        "boolean": bool,
        "array": list,
        "object": Mapping,
        "null": type(None),
    }
    return isinstance(value, kinds[kind])
