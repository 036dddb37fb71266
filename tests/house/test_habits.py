"""Small rules: variants are data, the library neither prints nor talks to a network nor keeps globals."""

from __future__ import annotations

import ast
import re

import pytest

VARIANT = re.compile(r"^(gemma-?4[-:])?(tiny-)?(e2b|e4b|12b|26b|26b-a4b|31b)(-it)?$", re.IGNORECASE)
NETWORK = {
    "socket",
    "ssl",
    "http",
    "urllib.request",
    "requests",
    "httpx",
    "aiohttp",
    "huggingface_hub",
}
ONLINE = ("gemstead.hub", "gemstead.server", "gemstead.cluster", "gemstead.agent.mcp")
SPEAKERS = ("gemstead.cli",)


def variant_branches(modules) -> list[str]:
    """Comparisons and string tests against a variant's name outside spec/: a layer reads its LayerSpec."""
    found = []
    for module in modules:
        if module.name.startswith("gemstead.spec"):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Compare | ast.match_case) or is_string_test(node):
                names = [x.value for x in ast.walk(node) if isinstance(x, ast.Constant)]
                if any(isinstance(name, str) and VARIANT.match(name) for name in names):
                    found.append(f"{module.path}: a branch on a variant's name; put the fact into its spec")
    return found


def is_string_test(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("startswith", "endswith")
    )


def network_imports(modules) -> list[str]:
    """Imports of anything that can reach a network, outside the modules made for it."""
    found = []
    for module in modules:
        if module.name.startswith(ONLINE):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                targets = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            if any(t in NETWORK or t.split(".")[0] in NETWORK for t in targets):
                found.append(f"{module.path}:{node.lineno}: {targets[0]} reaches a network")
    return found


def prints(modules) -> list[str]:
    return [
        f"{module.path}:{node.lineno}: only the CLI prints"
        for module in modules
        if not module.name.startswith(SPEAKERS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def global_state(modules) -> list[str]:
    """`global` statements: mutable state has four owners and no module-level home."""
    return [
        f"{module.path}:{node.lineno}: global {', '.join(node.names)}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]


def exits(modules) -> list[str]:
    """Calls that end the process from inside the library."""
    found = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and not module.name.startswith(SPEAKERS):
                text = ast.unparse(node.func)
                if text in ("exit", "quit", "sys.exit", "os._exit", "os.abort"):
                    found.append(f"{module.path}:{node.lineno}: {text}() ends the caller's process")
    return found


RULES = [variant_branches, network_imports, prints, global_state, exits]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_habit(package, rule, expect_none):
    expect_none(rule(package))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (variant_branches, "if spec.name == 'e2b': ..."),
        (variant_branches, "if name in ('12b', '31b'): ..."),
        (variant_branches, "x = 1 if name.startswith('tiny-e4b') else 2"),
        (variant_branches, "match name:\n    case 'gemma-4-E2B-it': ..."),
        (network_imports, "import socket"),
        (network_imports, "from urllib import request"),
        (network_imports, "def f():\n    import http.client"),
        (prints, "print('loading')"),
        (global_state, "x = 1\ndef f():\n    global x\n    x = 2"),
        (exits, "import sys\nsys.exit(1)"),
    ],
)
def test_broken_habit_is_found(plant, rule, source):
    assert len(rule(plant({"src/gemstead/backend/a.py": source}))) == 1


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (variant_branches, "src/gemstead/spec/hf.py", "if name == 'e2b': ..."),
        (variant_branches, "src/gemstead/text/a.py", "EXAMPLE = 'e2b'"),
        (network_imports, "src/gemstead/hub/pull.py", "import http.client"),
        (network_imports, "src/gemstead/text/a.py", "from urllib.parse import quote"),
        (prints, "src/gemstead/cli/run.py", "print('answer')"),
    ],
)
def test_good_habit_passes(plant, rule, path, source):
    assert rule(plant({path: source})) == []
