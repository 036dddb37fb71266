"""What a JSON Schema's combining keywords mean for a generator: references, unions, conjunctions.

A generator may allow less than a schema does but never more: where two variants could both hold and the
schema says "exactly one", or two parts contradict each other, it is an InputError. Used by grammar.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from gemstead.errors import InputError

Schema = Mapping[str, Any]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "object": ("properties", "required", "additionalProperties"),
}
_COMBINING = ("$ref", "anyOf", "oneOf", "allOf", "enum", "const", "type")
_ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "strict", "nullable"),
        *("contentMediaType", "contentEncoding"),
    )
)
KNOWN = frozenset((*_COMBINING, *_ANNOTATIONS, *(word for words in _BY_TYPE.values() for word in words)))
"""Every keyword that a constraint honours, or may pass over because it says nothing about values."""
_MOST_STEPS = 64  # references that lead to references


def check_keywords(schema: Schema, where: str) -> None:
    """InputError for a keyword whose meaning could not be guaranteed, and for types that do not exist."""
    strange = [
        key
        for key, value in schema.items()
        if key not in KNOWN and not str(key).startswith("x-") and not says_nothing(key, value)
    ]
    if strange:
        raise InputError(
            f"{where} uses {', '.join(map(repr, strange))}, which constrained output cannot guarantee; "
            "leave it out, or switch the constraint off. "
            f"Known are {', '.join(sorted(KNOWN - _ANNOTATIONS))}"
        )
    wrong = [kind for kind in _types(schema) if kind not in TYPES]
    if wrong:
        raise InputError(f"{where} has the type {wrong[0]!r}; allowed are {', '.join(TYPES)}")


def says_nothing(key: str, value: Any) -> bool:
    """Whether a keyword holds of every value: names are strings anyway, and zod writes that they are."""
    return key == "propertyNames" and value in ({"type": "string"}, {})


def _types(schema: Schema) -> list[str]:
    kinds = schema.get("type", ())
    return [str(kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]


def implied_types(schema: Schema) -> list[str]:
    """The types asked for, or those the other keywords speak of; empty: any."""
    kinds = _types(schema)
    if not kinds and "enum" not in schema and "const" not in schema:
        kinds = [kind for kind, words in _BY_TYPE.items() if any(word in schema for word in words)]
    if "number" in kinds and "integer" in kinds:
        kinds.remove("integer")
    return kinds


def resolve(reference: str, root: Schema, where: str) -> Any:
    """What a reference inside the same schema points at."""
    found: Any = root
    for _ in range(_MOST_STEPS):
        if reference != "#" and not reference.startswith("#/"):
            raise InputError(
                f"{where} refers to {reference!r}; only references within the schema are followed (#/...)"
            )
        found = root
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, Sequence) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise InputError(f"{where} refers to {reference!r}, which is not there")
        if not (isinstance(found, Mapping) and set(found) - _ANNOTATIONS == {"$ref"}):
            return found
        reference = str(found["$ref"])
    raise InputError(f"{where}: references lead in a circle at {reference!r}")


def alternatives(schema: Schema, root: Schema, where: str) -> list[Any] | None:
    """The schemas one of which must hold, or None where the schema has no combining keyword."""
    own = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf", "allOf")}
    if "allOf" in schema:
        whole: Any = own
        for part in schema["allOf"]:
            whole = merged(_opened(part, root, where), whole, where)
        rest = {k: schema[k] for k in ("anyOf", "oneOf") if k in schema}
        return [merged(whole, rest, where)]
    for word in ("anyOf", "oneOf"):
        if word not in schema:
            continue
        if "anyOf" in schema and "oneOf" in schema:
            raise InputError(f"{where} uses anyOf and oneOf together; keep one of them")
        bare = not set(own) - _ANNOTATIONS
        options = [x if bare else merged(_opened(x, root, where), own, where) for x in schema[word]]
        if word == "oneOf":
            _check_apart([_opened(x, root, where) for x in options], where)
        if not options:
            raise InputError(f"{where} has an empty {word}")
        return options
    return None


def _opened(schema: Any, root: Schema, where: str) -> Any:
    """The schema with a reference at its top followed."""
    if isinstance(schema, Mapping) and "$ref" in schema:
        rest = {k: v for k, v in schema.items() if k != "$ref"}
        return merged(resolve(str(schema["$ref"]), root, where), rest, where)
    return schema


def merged(first: Any, second: Any, where: str) -> Any:
    """A schema that means both; InputError where that is beyond putting keywords together."""
    if first is True or first == {}:
        return second
    if second is True or second == {}:
        return first
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        raise InputError(f"{where} allows no value at all; leave it out of the schema")
    result = {**first}
    for key, value in second.items():
        old: Any = result.get(key)
        if key in _BY_NAME_OR_PLACE:
            continue
        if key not in result or key in _ANNOTATIONS or equal(old, value):
            result[key] = value
        elif key == "required":
            result[key] = list(dict.fromkeys([*old, *value]))
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems"):
            result[key] = max(old, value)
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems"):
            result[key] = min(old, value)
        elif key == "enum":
            result[key] = [x for x in old if any(equal(x, y) for y in value)]
        elif key == "type":
            kinds = _shared_types(_types(first), _types(second))
            if not kinds:
                raise InputError(f"{where} must be {old!r} and {value!r} at once")
            result[key] = kinds
        else:
            raise InputError(f"{where} asks for {key} twice ({old!r:.60} and {value!r:.60}); write it once")
    return result | _merged_properties(first, second, where) | _merged_items(first, second, where)


_BY_NAME_OR_PLACE = ("properties", "additionalProperties", "prefixItems", "items")


def _shared_types(first: list[str], second: list[str]) -> list[str]:
    """The types that are both; an integer is a number too."""
    wide = [[*kinds, "integer"] if "number" in kinds else kinds for kinds in (first, second)]
    shared = [kind for kind in dict.fromkeys(wide[0]) if kind in wide[1]]
    return [kind for kind in shared if kind != "integer" or "number" not in shared]


def _both(first: Any, second: Any, where: str) -> Any:
    """As merged(), with False where no value satisfies both because one of them is False."""
    return False if first is False or second is False else merged(first, second, where)


def _merged_properties(first: Schema, second: Schema, where: str) -> dict[str, Any]:
    """Properties of both: each schema's additionalProperties speaks of the other's names too."""
    if not any(key in schema for key in _BY_NAME_OR_PLACE[:2] for schema in (first, second)):
        return {}
    named = [schema.get("properties", {}) for schema in (first, second)]
    others = [schema.get("additionalProperties", True) for schema in (first, second)]
    result: dict[str, Any] = {}
    if any("properties" in schema for schema in (first, second)):
        result["properties"] = {
            name: _both(named[0].get(name, others[0]), named[1].get(name, others[1]), f"{where}.{name}")
            for name in dict.fromkeys([*named[0], *named[1]])
        }
    if any("additionalProperties" in schema for schema in (first, second)):
        result["additionalProperties"] = _both(others[0], others[1], f"{where}.*")
    return result


def _merged_items(first: Schema, second: Schema, where: str) -> dict[str, Any]:
    """Items of both, place by place: each schema's items speak of what is past its own prefix."""
    prefixes = [list(schema.get("prefixItems", ())) for schema in (first, second)]
    rests = [schema.get("items", True) for schema in (first, second)]
    result: dict[str, Any] = {}
    longest = max(map(len, prefixes))
    if longest:
        padded = [[*p, *[rest] * (longest - len(p))] for p, rest in zip(prefixes, rests, strict=True)]
        result["prefixItems"] = [
            _both(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(*padded, strict=True))
        ]
    if any("items" in schema for schema in (first, second)):
        result["items"] = _both(rests[0], rests[1], f"{where}[]")
    return result


def equal(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def within(value: Any, schema: Schema, where: str) -> bool:
    """Whether a listed value also keeps the limits beside the list; InputError for limits not known here."""
    for key, limit in schema.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in _LIMITS:
            if number and not _LIMITS[key](value, limit):
                return False
        elif key in ("minLength", "maxLength"):
            if isinstance(value, str) and not _LIMITS[f"{key[:3]}imum"](len(value), limit):
                return False
        elif key in _OF_TYPES:
            raise InputError(
                f"{where} has {key!r} beside a list of values; constrained output cannot check it: "
                "leave out the values that it forbids, and the keyword"
            )
    return True


_OF_TYPES = frozenset(word for words in _BY_TYPE.values() for word in words)
_LIMITS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
    "multipleOf": lambda value, step: value % step == 0,
}


def _check_apart(options: Sequence[Any], where: str) -> None:
    for i, one in enumerate(options):
        for other in options[i + 1 :]:
            if not _apart(one, other):
                raise InputError(
                    f"{where} uses oneOf with variants that could hold together, which constrained output "
                    "cannot rule out; use anyOf, or give each variant a property with a constant of its own"
                )


def _apart(one: Any, other: Any) -> bool:
    """Whether surely no value satisfies both."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return False
    first, second = _values(one), _values(other)
    if first is not None and second is not None:
        return not any(equal(x, y) for x in first for y in second)
    kinds = [{"number" if k == "integer" else k for k in implied_types(x)} for x in (one, other)]
    if all(kinds) and not kinds[0] & kinds[1]:
        return True
    if kinds == [{"object"}, {"object"}]:
        inner = [x.get("properties", {}) for x in (one, other)]
        both = set(one.get("required", ())) & set(other.get("required", ())) & set(inner[0]) & set(inner[1])
        return any(_apart(inner[0][name], inner[1][name]) for name in both)
    return False


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None
