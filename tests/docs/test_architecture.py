"""docs/architecture.md names only what exists."""

from __future__ import annotations

import ast
import re

import pytest

MODULE = re.compile(r"`((?:[a-z_]+/)*[a-z_]+\.py)`")
FOLDER = re.compile(r"`((?:[a-z_]+/)+)`")
ARROW = re.compile(r"^\|[^|]+\|[^|]+\| `([^`]+\.py)` \| `([\w.]+)` \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def text(root) -> str:
    return (root / "docs/architecture.md").read_text(encoding="utf-8")


def defined(source: str) -> set[str]:
    """The functions, classes and Class.method names a module defines."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            functions = [x for x in node.body if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}.{x.name}" for x in functions}
    return found


def test_every_module_exists(root, text):
    names = set(MODULE.findall(text))
    assert len(names) > 15
    missing = [n for n in names if not (root / "src/gemstead" / n).exists() and not (root / n).exists()]
    assert missing == []


def test_every_folder_exists(root, text):
    names = set(FOLDER.findall(text))
    assert [n for n in names if not (root / "src/gemstead" / n).is_dir() and not (root / n).is_dir()] == []


def test_every_arrow_is_a_function(root, text):
    arrows = ARROW.findall(text)
    assert len(arrows) >= 10
    for module, function in arrows:
        source = (root / "src/gemstead" / module).read_text(encoding="utf-8")
        assert function in defined(source), f"{module} has no {function}"


def test_definitions_are_read():
    assert defined("def f(): ...\nclass C:\n    def g(self): ...") == {"f", "C", "C.g"}
