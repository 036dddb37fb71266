"""Tells MODEL from PROMPT: `gemstead run pebble hello`, `run model.gguf hello` and `run "hello"` all work.

The first word is the model if it is `pebble`, an existing path, or a name that models go by; every
other word belongs to the prompt. `-m` settles it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gemstead import pebble
from gemstead.errors import ConfigError
from gemstead.hub.names import is_embedded, looks_like_name

DEFAULT_MODEL = "pebble"

_ONE_WORD = re.compile(r"[\w./:-]+", re.ASCII)
# Families that other programs know, a repository with a number in it, and slips of e2b and the like.
_LIKE_A_MODEL = re.compile(
    r"(llama|tinyllama|mistral|mixtral|qwen|phi|deepseek|codellama|gpt-oss|smollm)[\w.:-]*"
    r"|[\w.-]+/[\w.-]*\d[\w.-]*|e\d\w?|\d+b",
    re.ASCII,
)
_LIKE_A_PATH = re.compile(r"(~|\.{1,2})?/\S*|\S+\.(gguf|safetensors)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """What to open and what to ask; `is_default` where the user named no model."""

    model: str
    words: tuple[str, ...]
    is_default: bool = False


def split_words(words: Sequence[str], model: str | None = None) -> Target:
    """The model and the words of the prompt; ConfigError for a model that cannot be had."""
    if model is not None:
        return Target(check_model(model), tuple(words))
    if words and names_model(words[0]):
        return Target(check_model(words[0]), tuple(words[1:]))
    return Target(DEFAULT_MODEL, tuple(words), is_default=True)


def seems_a_model(words: Sequence[str]) -> bool:
    """Whether the first of several words, taken for the prompt's, may have been meant as a model's name."""
    if len(words) < 2 or not _ONE_WORD.fullmatch(words[0]):
        return False
    word = words[0].lower()
    near = difflib.get_close_matches(word, (DEFAULT_MODEL, "gemma"), 1, 0.75)
    return bool(near) or _LIKE_A_MODEL.fullmatch(word) is not None


def names_model(word: str) -> bool:
    """Whether a first word is the model rather than the beginning of the prompt."""
    if is_embedded(word) or looks_like_name(word):
        return True
    return exists(word) or _LIKE_A_PATH.fullmatch(word) is not None


def check_model(model: str) -> str:
    """The path of a model, however it is named; HubError saying how to fetch one that is not here."""
    if is_embedded(model):
        return DEFAULT_MODEL
    if exists(model):
        return str(Path(model).expanduser())
    if _LIKE_A_PATH.fullmatch(model) and not looks_like_name(model):
        raise ConfigError(
            f"there is no model {model!r}: not a file or folder here; allowed are {DEFAULT_MODEL}, a model's "
            "name such as e2b, the path of a GGUF file, or of a folder with config.json and *.safetensors"
        )
    # Reads weight files, so brings numpy: only who names a model pays.
    from gemstead.hub.local import resolve

    return str(resolve(model).facts.path)


def path_of(found: str) -> Path:
    """Where a model that check_model() found lies."""
    return pebble.path() if found == DEFAULT_MODEL else Path(found)


def exists(word: str) -> bool:
    """Whether the word is an existing path; a whole sentence never is."""
    try:
        return bool(word.strip()) and Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, or no home folder
        return False
