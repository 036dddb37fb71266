"""One word for one thing: design.md's names, no drawer modules, no negative booleans."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath

import pytest

DRAWERS = {"utils", "util", "common", "misc", "helper", "helpers", "manager", "base_utils", "stuff", "core"}
EMPTY_WORDS = re.compile(r"(Manager|Helper|Helpers|Util|Utils|Handler|Impl)$|^Base[A-Z]")

# Model facts have Hugging Face's words; these are other projects' words for the same things.
OTHER_WORDS = {
    "n_layers": "num_layers",
    "n_layer": "num_layers",
    "num_hidden_layers": "num_layers",
    "n_heads": "num_heads",
    "n_head": "num_heads",
    "num_attention_heads": "num_heads",
    "n_kv_heads": "num_kv_heads",
    "num_key_value_heads": "num_kv_heads",
    "d_model": "hidden_size",
    "n_embd": "hidden_size",
    "hidden_dim": "hidden_size",
    "ffn_dim": "intermediate_size",
    "d_ff": "intermediate_size",
    "n_vocab": "vocab_size",
    "n_experts": "num_experts",
    "rope_base": "rope_theta",
    "block_table": "page_table",
    "speculative_tokens": "drafted_tokens",
}
NEGATIVE = re.compile(
    r"^(no|not|non|without|disable|disabled|dont|never|unset|unsafe|unknown|unused|unlimited)_|^disabled?$"
)


def drawer_modules(modules) -> list[str]:
    """Modules named after no thing at all."""
    return [
        f"{module.path}: a module is named after what it holds, not {part!r}"
        for module in modules
        for part in PurePosixPath(module.path).with_suffix("").parts
        if part.removeprefix("test_") in DRAWERS
    ]


def empty_class_names(modules) -> list[str]:
    return [
        f"{module.path}:{node.lineno}: class {node.name} says nothing with its {EMPTY_WORDS.pattern}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and EMPTY_WORDS.search(node.name.lstrip("_"))
    ]


def bindings(tree: ast.Module):
    """(name, line, is_boolean) of every variable, field, parameter and function defined."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno, False
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.lineno, is_bool(node.annotation)
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno, is_bool(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node.lineno, is_bool(node.returns)


def is_bool(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "bool"


def other_words(modules) -> list[str]:
    return [
        f"{module.path}:{line}: {name} is called {OTHER_WORDS[name]} here"
        for module in modules
        for name, line, _ in bindings(module.tree)
        if name in OTHER_WORDS
    ]


def negative_booleans(modules) -> list[str]:
    return [
        f"{module.path}:{line}: the boolean {name} is negative; name the thing that is true"
        for module in modules
        for name, line, boolean in bindings(module.tree)
        if boolean and NEGATIVE.search(name)
    ]


def test_modules_have_names(everything, expect_none):
    expect_none(drawer_modules(everything))


def test_classes_have_names(package, expect_none):
    expect_none(empty_class_names(package))


def test_model_facts_have_one_word(package, expect_none):
    expect_none(other_words(package))


def test_booleans_read_as_statements(package, expect_none):
    expect_none(negative_booleans(package))


@pytest.mark.parametrize(
    "path", ["src/gemstead/utils.py", "src/gemstead/text/helpers.py", "tests/misc/test_a.py"]
)
def test_drawer_is_found(plant, path):
    assert len(drawer_modules(plant({path: ""}))) == 1


@pytest.mark.parametrize("name", ["PageManager", "BaseBackend", "StreamHandler", "_EngineImpl"])
def test_empty_class_name_is_found(plant, name):
    assert len(empty_class_names(plant({"src/gemstead/a.py": f"class {name}: ..."}))) == 1


def test_full_class_name_passes(plant):
    assert empty_class_names(plant({"src/gemstead/a.py": "class Baseline: ...\nclass Handle: ..."})) == []


@pytest.mark.parametrize("source", ["n_layers = 3", "def f(d_model): ...", "class A:\n    n_heads: int"])
def test_other_word_is_found(plant, source):
    assert len(other_words(plant({"src/gemstead/a.py": source}))) >= 1


@pytest.mark.parametrize(
    "source", ["def f(no_cache: bool): ...", "class A:\n    disable_tools: bool = False"]
)
def test_negative_boolean_is_found(plant, source):
    assert len(negative_booleans(plant({"src/gemstead/a.py": source}))) == 1
    positive = "def f(cache: bool, not_before: int): ..."
    assert negative_booleans(plant({"src/gemstead/a.py": positive})) == []
