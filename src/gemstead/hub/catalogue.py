"""The models gemstead knows by name, read from catalogue.toml beside this file.

Facts only: which repositories hold a variant, in which formats, how large. Asks no network and looks at no
disk. Neighbour: names.py, which finds a row for what a person typed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# A number format, or a word of letters and digits.
_WORD = re.compile(r"(?:i?q\d_(?:[01]|nl|xs|xxs|k(?:_(?:xl|[sml]))?))(?![a-z0-9])|[a-z0-9]+")
_FORMAT_DASHES = re.compile(r"(?<![a-z0-9])(i?q\d)[-_ ](0|1|nl|xs|xxs|k)(?:[-_ ](xl|s|m|l))?(?![a-z0-9])")
# A row with one of these words is only meant by a name that has it too.
ASKED_FOR = frozenset({"base", "assistant", "unquantized"})


@dataclass(frozen=True)
class Row:
    """One repository of one variant. Sizes are what is known beforehand: None, where nothing is."""

    name: str
    variant: str
    repo: str
    kind: str
    formats: tuple[str, ...] = ()
    weights: str | None = None
    weights_bytes: int | None = None
    mmproj: str | None = None
    mmproj_bytes: int | None = None
    drafter: str | None = None
    revision: str = "main"

    @property
    def words(self) -> frozenset[str]:
        """Every word by which this row can be asked for."""
        own = words(f"{self.name} {self.variant} {self.repo} {self.kind}")
        tuned = "base" if "base" in own else "it"
        return frozenset({*own, tuned, *(word for name in self.formats for word in words(name))})

    @property
    def is_default(self) -> bool:
        """Whether a name that says nothing special may mean this row."""
        return not self.words & ASKED_FOR


@dataclass(frozen=True)
class Catalogue:
    """All rows, in order of preference within a variant, and what words mean."""

    rows: tuple[Row, ...]
    same_words: Mapping[str, str]
    empty_words: frozenset[str]

    def by_repo(self, repo: str) -> Row | None:
        """The row of a repository, in whatever case it is written."""
        return next((row for row in self.rows if row.repo.lower() == repo.lower()), None)

    def recommended(self) -> tuple[Row, ...]:
        """The preferred row of each variant, smallest first."""
        first: dict[str, Row] = {}
        for row in self.rows:
            first.setdefault(row.variant, row)
        return tuple(sorted(first.values(), key=lambda row: row.weights_bytes or 0))


def words(text: str) -> list[str]:
    """The words of a name in order, lower case: 'Gemma-4:E2B-it-Q4_K_M' -> gemma 4 e2b it q4_k_m."""
    joined = _FORMAT_DASHES.sub(
        lambda m: "_".join(part for part in m.groups() if part), text.lower().replace("_", "-")
    )
    return _WORD.findall(joined)


@cache
def catalogue() -> Catalogue:
    """The catalogue that comes with gemstead."""
    return read(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))


def read(text: str) -> Catalogue:
    """A catalogue from TOML."""
    data: dict[str, Any] = tomllib.loads(text)
    rows = [Row(**{**row, "formats": tuple(row.get("formats", ()))}) for row in data["model"]]
    return Catalogue(tuple(rows), data["same_words"], frozenset(data["empty_words"]["words"]))
