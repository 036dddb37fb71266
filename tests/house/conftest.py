"""The source tree as parsed modules, and a way to plant modules that break a rule.

Every rule of this folder is a function from modules to a list of complaints, so that it can be
shown to fail: each test file runs its rule on the real tree and on planted violations.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Module:
    """One parsed source file; `name` is dotted for the package's modules, the path for others."""

    name: str
    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, filename=self.path)

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def num_lines(self) -> int:
        return len(self.source.splitlines())


def dotted(path: str) -> str:
    """'src/gemstead/text/parser.py' -> 'gemstead.text.parser'."""
    parts = Path(path).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_tree(*folders: str) -> list[Module]:
    """Every Python file under these folders of the repository."""
    found = []
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            path = file.relative_to(ROOT).as_posix()
            if "/out/" not in path:
                found.append(Module(dotted(path), path, file.read_text(encoding="utf-8")))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def package() -> list[Module]:
    """The modules of src/gemstead."""
    return read_tree("src")


@pytest.fixture(scope="session")
def everything() -> list[Module]:
    """All Python of the repository: package, recipes, tests, benches, examples, docs."""
    return read_tree("src", "recipes", "tests", "bench", "examples", "docs")


@pytest.fixture(scope="session")
def plant() -> Callable[[dict[str, str]], list[Module]]:
    """Make modules out of {path: source}; a source is dedented."""

    def make(files: dict[str, str]) -> list[Module]:
        return [Module(dotted(path), path, textwrap.dedent(source)) for path, source in files.items()]

    return make


@pytest.fixture(scope="session")
def expect_none() -> Callable[[list[str]], None]:
    """Fail with every complaint on a line of its own."""

    def check(complaints: list[str]) -> None:
        assert not complaints, "\n" + "\n".join(complaints)

    return check
