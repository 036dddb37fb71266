"""The repository's pages and the code blocks inside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gemstead import pebble
from support.fake_hub import FakeHub, serving
from support.repositories import E2B, WEIGHTS, repositories

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language and its text, with the line it begins on."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page in order."""
    return [
        Block(page, text[: match.start(2)].count("\n") + 1, match[1], match[2])
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def pages() -> list[Path]:
    """Every page a user or contributor reads."""
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "recipes").rglob("*.md")),
    ]


def all_blocks() -> list[Block]:
    """The blocks of all pages."""
    return [
        block
        for page in pages()
        for block in blocks(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`page`, `python_block`, `shell_block` and `example` run over what the repository holds."""
    values = {
        "page": [path.relative_to(ROOT).as_posix() for path in pages()],
        "python_block": [block for block in all_blocks() if block.language == "python"],
        "shell_block": [block for block in all_blocks() if block.language == "sh"],
        "example": sorted(path.name for path in (ROOT / "examples").glob("*.py")),
    }
    for name, found in values.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, found, ids=str)


@pytest.fixture(scope="session")
def hub() -> Iterator[FakeHub]:
    """A hub on loopback where pebble goes by the name of e2b: the pages' commands run against it."""
    repos = {name: dict(files) for name, files in repositories().items()}
    repos[E2B][WEIGHTS] = pebble.path().read_bytes()
    with serving(FakeHub(repos=repos)) as fake:
        yield fake


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def split_blocks():
    return blocks
