"""Imports go one way, there is no cycle, and no import hides inside a function.

The table LAYERS is the law of design.md: who may import whom. TYPE_CHECKING imports count too: a
cycle of names is still a cycle of ideas.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import pytest

_BASE = {"errors", "types"}
_CORE = _BASE | {"spec", "weights", "backend", "engine"}
_LINE = _CORE | {"text", "media", "session"}

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "pebble": set(),
    "types": {"errors"},
    "spec": _BASE,
    "text": _BASE | {"spec"},
    "media": _BASE | {"spec"},
    "protocol": _BASE | {"text"},
    "weights": _BASE | {"spec"},
    "hub": _BASE | {"spec", "weights"},
    "backend": _BASE | {"spec", "weights"},
    "engine": _BASE | {"spec", "weights", "backend"},
    "machine": _CORE | {"hub"},
    "session": _CORE | {"text", "media"},
    "agent": _LINE,
    "server": _LINE | {"machine", "hub"},
    "tune": _LINE | {"machine", "hub"},
    "cluster": _LINE | {"machine", "hub"},
    "model": _LINE | {"agent", "machine", "hub", "pebble"},
    "": _BASE | {"model", "machine"},  # gemstead/__init__.py, the public names
    "__main__": {"cli"},
    "cli": _LINE | {"agent", "server", "tune", "cluster", "model", "machine", "hub", "pebble", ""},
}

# Which packages from outside the standard library a layer may use; a layer not named may use none.
OUTSIDE: dict[str, set[str]] = {
    "weights": {"numpy"},
    "media": {"numpy"},
    "text": {"tokenizers"},
    "hub": {"huggingface_hub"},
    "backend": {"numpy"},
    "engine": {"numpy", "llguidance"},
    "machine": {"numpy"},
    "session": {"numpy"},
    "model": {"numpy"},
    "tune": {"numpy", "torch"},
    "cluster": {"ray"},
    "server": {"starlette", "uvicorn", "prometheus_client"},
    "cli": {"click", "prompt_toolkit", "matplotlib"},
    "backend.torch": {"numpy", "torch"},
}

# Optional or slow to import: these alone may be imported inside a function.
LATE = {
    "torch",
    "tokenizers",
    "prompt_toolkit",
    "llguidance",
    "matplotlib",
    "huggingface_hub",
    "concurrent.futures",
} | {f"gemstead.{name}" for name in ("backend.torch", "hub.local", "cli.offer")}


class Import(NamedTuple):
    target: str
    line: int
    late: bool


def imports(module, names: set[str]) -> Iterator[Import]:
    """Every import of a module; `from gemstead import x` counts as gemstead.x where that exists."""
    late_lines = {
        inner.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            subs = [f"{base}.{alias.name}" for alias in node.names]
            targets = [sub if sub in names else base for sub in subs]
        else:
            continue
        for target in dict.fromkeys(targets):
            yield Import(target, node.lineno, node.lineno in late_lines)


def absolute(module, node: ast.ImportFrom) -> str:
    """The dotted target of a from-import, relative ones included."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join([*parts, node.module] if node.module else parts)


def layer(name: str) -> str:
    """'gemstead.text.parser' -> 'text'; the root package is ''."""
    return name.split(".")[1] if "." in name else ""


def wrong_imports(modules) -> list[str]:
    """Imports that go against LAYERS or OUTSIDE."""
    names = {module.name for module in modules}
    found = []
    for module in modules:
        own = layer(module.name)
        if own not in LAYERS:
            found.append(f"{module.path}: layer {own!r} is not in the table LAYERS")
            continue
        is_torch = module.name.startswith("gemstead.backend.torch")
        outside = OUTSIDE.get("backend.torch" if is_torch else own, set())
        for target, line, _ in imports(module, names):
            root = target.split(".")[0]
            if root == "gemstead":
                if layer(target) not in LAYERS[own] | {own}:
                    found.append(f"{module.path}:{line}: {own or 'gemstead'} must not import {target}")
            elif root not in sys.stdlib_module_names and root not in outside:
                found.append(f"{module.path}:{line}: {own or 'gemstead'} must not use the package {root}")
    return found


def hidden_imports(modules) -> list[str]:
    """Imports inside functions, other than those of LATE."""
    names = {module.name for module in modules}
    return [
        f"{module.path}:{found.line}: import of {found.target} inside a function"
        for module in modules
        for found in imports(module, names)
        if found.late and not any(found.target == x or found.target.startswith(x + ".") for x in LATE)
    ]


def cycles(modules) -> list[str]:
    """One cycle of modules, if there is any; a package's parent does not count as its import."""
    names = {module.name for module in modules}
    graph = {
        module.name: {x.target for x in imports(module, names) if x.target in names} - {module.name}
        for module in modules
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def test_imports_go_one_way(package, expect_none):
    expect_none(wrong_imports(package))


def test_no_import_hides_in_a_function(package, expect_none):
    expect_none(hidden_imports(package))


def test_no_cycle(package, expect_none):
    expect_none(cycles(package))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("src/gemstead/spec/model.py", "from gemstead.weights import store"),
        ("src/gemstead/engine/engine.py", "from gemstead.text.parser import Parser"),
        ("src/gemstead/engine/engine.py", "import torch"),
        ("src/gemstead/backend/base.py", "import gemstead.engine.pages"),
        ("src/gemstead/agent/loop.py", "from gemstead.cli import main"),
        ("src/gemstead/agent/loop.py", "from ..model import Model"),
        ("src/gemstead/spec/hf.py", "import numpy"),
        ("src/gemstead/text/template.py", "def f():\n    from gemstead import session"),
        ("src/gemstead/backend/reference/forward.py", "import torch"),
        ("src/gemstead/misfit/x.py", ""),
    ],
)
def test_wrong_import_is_found(plant, path, source):
    targets = ["weights/store", "text/parser", "session", "model", "cli/main"]
    others = {f"src/gemstead/{target}.py": "" for target in targets}
    assert len(wrong_imports(plant({**others, path: source}))) == 1


def test_right_imports_pass(plant):
    modules = plant(
        {
            "src/gemstead/errors.py": "",
            "src/gemstead/text/parser.py": "import json\nfrom gemstead import errors\nimport tokenizers",
            "src/gemstead/backend/torch/forward.py": "import torch\nimport numpy as np",
            "src/gemstead/cli/run.py": "import click\nimport gemstead\nfrom gemstead import errors",
        }
    )
    assert wrong_imports(modules) == []


def test_hidden_import_is_found(plant):
    source = "def f():\n    import torch\n\ndef g():\n    from gemstead.text import parser\n"
    complaints = hidden_imports(plant({"src/gemstead/session.py": source}))
    assert [text.split(":")[1] for text in complaints] == ["5"]


def test_cycle_is_found_even_when_late_or_for_types_only(plant):
    modules = plant(
        {
            "src/gemstead/text/a.py": "def f():\n    from gemstead.text import b",
            "src/gemstead/text/b.py": "import typing\nif typing.TYPE_CHECKING:\n    from .a import A",
        }
    )
    assert len(cycles(modules)) == 1
