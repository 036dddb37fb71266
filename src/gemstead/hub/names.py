"""From what a person types to one model: e2b, gemma4:e2b-it-qat, google/gemma-4-E2B-it, hf.co/o/r:Q4_K_M.

Pure: looks at no disk and no network. Refuses what could be two models, and names the choices; for a slip of
the finger it names the nearest. Paths are not names: the caller looks for files first.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from gemstead.errors import HubError
from gemstead.hub.catalogue import ASKED_FOR, Catalogue, Row, catalogue, words

_HOST = re.compile(r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/", re.IGNORECASE)
_REPO = re.compile(
    r"([a-z0-9][\w.-]{0,95})/([a-z0-9][\w.-]{0,95})(?::([\w./-]{1,200}))?", re.IGNORECASE | re.ASCII
)
_FORMAT = re.compile(r"i?q\d_\w+|bf16|f16|f32|mxfp4")
_SHORT = re.compile(r"[a-z0-9][\w.:-]*", re.IGNORECASE | re.ASCII)
_FAMILY = re.compile(r"gemma-?4", re.IGNORECASE)
# What other programs call models: name:8b, name:e4b-it-q4_0, name:latest. No sentence begins so.
_TAGGED = re.compile(r"[a-z][\w.-]*:(latest|[ea]?\d+(\.\d+)?[bm](-[\w.-]+)?)", re.IGNORECASE | re.ASCII)
_PATH = re.compile(r"(~|\.{1,2})?/.*|.*\.(gguf|safetensors)", re.IGNORECASE | re.DOTALL)
_MOST = 8  # choices or suggestions that a message lists


@dataclass(frozen=True)
class Wanted:
    """One model, named: a repository, perhaps a format or file in it, and its row where it has one.

    A full name means this repository and no other; a short one any model that has the words `asked`.
    """

    repo: str
    tag: str | None = None
    row: Row | None = None
    asked: frozenset[str] | None = None

    @property
    def revision(self) -> str:
        """Which revision of the repository is meant."""
        return self.row.revision if self.row is not None else "main"

    @property
    def title(self) -> str:
        """The name as messages show it."""
        if self.asked is not None and self.row is not None:
            return self.row.name
        return self.repo + (f":{self.tag}" if self.tag else "")


def is_embedded(text: str) -> bool:
    """Whether a word names the model that comes with gemstead, in any case and as others write names."""
    return text.lower() in ("pebble", "pebble:latest")


def looks_like_name(text: str) -> bool:
    """Whether a word is meant as a model's name, right or wrong, and does not begin a sentence."""
    if _HOST.match(text):
        return True
    repo = _REPO.fullmatch(text)
    if repo and repo[3]:
        return _FAMILY.search(text) is not None or repo[3].lower().endswith(".gguf")
    if _PATH.fullmatch(text):
        return False
    if repo:
        return _FAMILY.search(text) is not None or catalogue().by_repo(text.split(":")[0]) is not None
    if not _SHORT.fullmatch(text):
        return False
    if _TAGGED.fullmatch(text):
        return True
    return _FAMILY.match(text) is not None or _short_rows(text, catalogue()) != ()


def parse(text: str, known: Catalogue | None = None) -> Wanted:
    """The model that `text` names; HubError with the choices or the nearest names otherwise."""
    known = known or catalogue()
    stripped = text.strip()
    if is_embedded(stripped):
        raise HubError("pebble is part of gemstead: there is nothing to fetch, remove or carry")
    match = _HOST.match(stripped)
    rest = stripped[match.end() :].rstrip("/") if match else stripped
    if match or "/" in rest:
        return _full(rest, known, text)
    rows = _short_rows(rest, known)
    variants = dict.fromkeys(row.variant for row in rows)
    if len(variants) > 1:
        names = [next(row for row in rows if row.variant == variant).name for variant in variants]
        raise HubError(f"{text!r} could be several models; say which: {_listed(names)}")
    if not rows:
        raise HubError(f"there is no model {text!r}{_nearest(stripped, known)}")
    asked = _meaning(rest, known)
    formats = rows[0].formats if rows[0].kind == "gguf" and rows[0].weights is None else ()
    tag = next((name for name in formats if set(words(name)) & asked), None)
    return Wanted(rows[0].repo, tag, rows[0], asked - frozenset(words(rows[0].variant)))


def _full(text: str, known: Catalogue, typed: str) -> Wanted:
    """owner/repo, owner/repo:tag, or a hub address that may go on with /blob/main/FILE."""
    address = re.fullmatch(r"([^/]+/[^/:]+)/(?:blob|resolve|tree)/[^/]+(?:/(.+?))?(?:\?.*)?", text)
    if address:
        text = address[1] + (f":{address[2]}" if address[2] else "")
    match = _REPO.fullmatch(text)
    if match is None:
        raise HubError(
            f"{typed!r} is no name of a repository; write owner/name or owner/name:Q4_K_M"
            + _nearest(text, known)
        )
    repo = f"{match[1]}/{match[2]}"
    row = known.by_repo(repo)
    return Wanted(row.repo if row else repo, match[3], row)


def _meaning(text: str, known: Catalogue) -> frozenset[str]:
    """The words of a short name that say something."""
    return frozenset(known.same_words.get(word, word) for word in words(text)) - known.empty_words


def _short_rows(text: str, known: Catalogue) -> tuple[Row, ...]:
    """The rows that have every word of a short name; none unless it names the family or a size."""
    said = _meaning(text, known)
    sizes = {word for row in known.rows for word in words(row.variant)} - known.empty_words
    if not _SHORT.fullmatch(text) or not (_FAMILY.match(text) or said & sizes):
        return ()
    special = said & ASKED_FOR
    return tuple(row for row in known.rows if said <= row.words and row.words & ASKED_FOR == special)


def _nearest(text: str, known: Catalogue) -> str:
    """'; did you mean ...?' with the nearest names, else the names there are."""
    candidates: dict[str, str] = {}
    for row in known.rows:
        short = row.name.split(":", 1)[-1]
        for form in (row.name, short, row.repo, row.repo.split("/")[1], row.variant):
            candidates.setdefault(form.lower(), form)
    near = difflib.get_close_matches(text.lower(), list(candidates), n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(candidates[name] for name in near)}?"
    names = [row.name for row in known.recommended()]
    return f"; known are {_listed(names)}, any owner/name of the hub, and paths of files"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def format_of(name: str) -> str | None:
    """The number format that a file's name says: 'gemma-4-E2B-it-UD-Q4_K_XL.gguf' -> Q4_K_XL."""
    found = [word for word in words(name) if _FORMAT.fullmatch(word)]
    return found[-1].upper() if found else None
