"""docs/MODEL.md names only functions that exist, after every section, and its numbers are the specs'."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

from gemstead.spec.variants import VARIANTS

LINE = re.compile(r"^Executable form: (.+)$", re.MULTILINE)
NAME = re.compile(r"`([\w.]+)`")
ROW = re.compile(
    r"^\| ([\w-]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+), (\d+) \| (\d+) \| (\d+)(?: and (\d+))? \|",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def text(root) -> str:
    return (root / "docs/MODEL.md").read_text(encoding="utf-8")


def resolve(name: str) -> Any:
    """The object a dotted name stands for: the longest module, then attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def test_every_named_function_exists(text):
    names = [name for line in LINE.findall(text) for name in NAME.findall(line)]
    assert len(names) > 25
    for name in names:
        found = resolve(name)
        assert callable(found) or hasattr(found, "func"), f"{name} is no function"  # func: a cached_property


def test_every_section_but_the_last_names_its_function(text):
    sections = re.split(r"^#{2,3} ", text, flags=re.MULTILINE)[1:]
    assert len(sections) >= 20
    for section in sections[:-1]:
        last = section.strip().splitlines()[-1]
        assert LINE.fullmatch(last), f"the section {section.splitlines()[0]!r} ends with {last!r}"


def test_the_table_holds_the_numbers_of_the_specs(text):
    rows = ROW.findall(text)
    assert [row[0] for row in rows] == ["e2b", "e4b", "12b", "26b-a4b", "31b"]
    for name, *values in rows:
        spec = VARIANTS[name]
        sliding, full = spec.layers[0].attention, spec.layers[-1].attention
        widths = sorted({layer.intermediate_size for layer in spec.layers})
        facts = [spec.num_layers, spec.hidden_size, sliding.num_heads]
        facts += [sliding.num_kv_heads, full.num_kv_heads, sliding.window, *widths]
        assert [int(value) for value in values if value] == facts


def test_a_wrong_name_is_found():
    with pytest.raises(AttributeError):
        resolve("gemstead.backend.reference.norms.no_such_function")
    with pytest.raises(ModuleNotFoundError):
        resolve("no_such_package.f")
