"""JSON Schemas of tools, brought into the few keywords Gemma's declarations have.

References are resolved, unions merged, null becomes `nullable`, lists of types and constants are
spelled out. What a declaration cannot say (ranges, patterns) is left out, as Google does; refusing
bad schemas is the constraint's business, not this module's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemstead.errors import InputError

MAX_DEPTH = 24  # deeper schemas, and references that contain themselves, end in a plain type
MAX_NODES = 20_000  # of one tool, references written out


def normalise(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` with only description, enum, items, nullable, properties, required and type.

    Raises InputError for a schema whose references unfold into more than MAX_NODES schemas.
    """
    return _Normaliser(schema).at(schema, ())


class _Normaliser:
    """One schema in progress: the root that references start from, and how much was written."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.nodes = 0

    def at(self, schema: object, trail: tuple[str, ...]) -> dict[str, Any]:
        """One schema; `trail` holds the references followed to it, '' for other steps down."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise InputError(
                f"cannot declare a tool: its parameters unfold into more than {MAX_NODES} schemas, too large "
                "for a prompt; make references narrower"
            )
        if not isinstance(schema, Mapping) or len(trail) > MAX_DEPTH:
            return {}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            if reference in trail:
                return self.keywords(rest, trail) or {"type": "object"}
            target = self.at(_resolve(reference, self.root), (*trail, reference))
            return _both(target, self.at(rest, (*trail, "")))
        below = (*trail, "")
        result = self.keywords(schema, below)
        for part in _listed(schema.get("allOf")):
            result = _both(result, self.at(part, below))
        for keyword in ("anyOf", "oneOf"):
            variants = [self.at(part, below) for part in _listed(schema.get(keyword))]
            if variants:
                result = _both(_either(variants), result)
        return result

    def keywords(self, schema: Mapping[str, Any], trail: tuple[str, ...]) -> dict[str, Any]:
        """A schema's own keywords, without what it refers to."""
        result: dict[str, Any] = {}
        if schema.get("description"):
            result["description"] = str(schema["description"])
        kinds = [str(kind) for kind in _as_list(schema.get("type"))]
        values = [schema["const"]] if "const" in schema else _listed(schema.get("enum"))
        if values:
            result["enum"] = [value for value in values if value is not None]
        if schema.get("nullable") or "null" in kinds or None in values:
            result["nullable"] = True
        if isinstance(schema.get("items"), Mapping):
            result["items"] = self.at(schema["items"], trail)
        if isinstance(schema.get("properties"), Mapping):
            inner = schema["properties"].items()
            result["properties"] = {str(name): self.at(value, trail) for name, value in inner}
            names = [str(name) for name in _listed(schema.get("required"))]
            if names:
                result["required"] = names
        kinds = [kind for kind in kinds if kind != "null"] or _implied_types(result)
        if kinds:
            result["type"] = kinds[0] if len(kinds) == 1 else kinds
        return result


def _implied_types(result: Mapping[str, Any]) -> list[str]:
    if "properties" in result:
        return ["object"]
    if "items" in result:
        return ["array"]
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    found = [kinds.get(type(value), "") for value in result.get("enum", ())]
    return list(dict.fromkeys(kind for kind in found if kind))


def _resolve(reference: str, root: Mapping[str, Any]) -> object:
    """The target of a reference inside the same schema; anything else is an empty schema."""
    if not reference.startswith("#"):
        return {}
    found: Any = root
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """A schema that means both; where they disagree on a word, the second one's word stands."""
    result = {**first, **second}
    if "properties" in first and "properties" in second:
        result["properties"] = {**first["properties"], **second["properties"]}
    names = dict.fromkeys([*first.get("required", ()), *second.get("required", ())])
    if names:
        result["required"] = list(names)
    return result


def _either(variants: list[dict[str, Any]]) -> dict[str, Any]:
    """One schema that allows what any variant allows."""
    real = [v for v in variants if set(v) - {"nullable"}]
    result: dict[str, Any] = {}
    for variant in real:
        for key in ("description", "items"):
            if key in variant:
                result.setdefault(key, variant[key])
        if "properties" in variant:
            result["properties"] = {**variant["properties"], **result.get("properties", {})}
    kinds = list(dict.fromkeys(kind for v in real for kind in _as_list(v.get("type"))))
    if kinds:
        result["type"] = kinds[0] if len(kinds) == 1 else kinds
    if real and all("enum" in v for v in real):
        result["enum"] = [value for v in real for value in v["enum"]]
    shapes = [v for v in real if "properties" in v]
    shared = (
        [n for n in shapes[0].get("required", ()) if all(n in v.get("required", ()) for v in shapes)]
        if shapes
        else []
    )
    if shared:
        result["required"] = shared
    if any(v.get("nullable") for v in variants):
        result["nullable"] = True
    return result


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _as_list(value: object) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
