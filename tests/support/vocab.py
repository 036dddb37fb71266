"""Vocabularies for tests: a tiny one with Gemma's control tokens in place, and the real one if present.

The tiny one needs no download: control tokens at Gemma's low ids, byte tokens at 238 to 493, ASCII,
a few merges. The real one is read from ../shared by a reader kept as small as possible.
"""

from __future__ import annotations

import mmap
import struct
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gemstead.backend.native.vocabulary import native_cutter
from gemstead.text import control
from gemstead.text.tokenizer import BYTE, CONTROL, NORMAL, SPACE, UNUSED, Tokenizer

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
REAL_VOCABULARY = SHARED / "gemma4" / "tokenizer" / "ggml-vocab-gemma-4.gguf"

CONTROL_AT = {
    0: control.PAD,
    1: control.EOS,
    2: control.BOS,
    3: control.UNK,
    4: control.MASK,
    46: control.TOOL_OPEN,
    47: control.TOOL_CLOSE,
    48: control.CALL_OPEN,
    49: control.CALL_CLOSE,
    50: control.RESPONSE_OPEN,
    51: control.RESPONSE_CLOSE,
    52: control.QUOTE,
    98: control.THINK,
    100: control.CHANNEL_OPEN,
    101: control.CHANNEL_CLOSE,
    105: control.TURN_OPEN,
    106: control.TURN_CLOSE,
}
MEDIA = (
    control.IMAGE_OPEN,
    control.IMAGE,
    control.IMAGE_CLOSE,
    control.AUDIO_OPEN,
    control.AUDIO,
    control.AUDIO_CLOSE,
    control.VIDEO,
)
MERGED = (
    "th",
    "the",
    "he",
    "in",
    "er",
    "▁t",
    "▁the",
    "us",
    "use",
    "user",
    "mo",
    "de",
    "mod",
    "model",
    "ca",
    "ll",
    "call",
)


def small_vocabulary() -> tuple[list[str], list[int], list[str]]:
    """Tokens, GGUF token types and merges of the tiny vocabulary (about 620 entries)."""
    tokens = [f"<unused{i}>" for i in range(494)]
    types = [UNUSED] * 494
    for i, text in CONTROL_AT.items():
        tokens[i], types[i] = text, CONTROL
    tokens[107], types[107] = "\n", NORMAL
    tokens[108], types[108] = "\n\n", NORMAL
    for b in range(256):
        tokens[238 + b], types[238 + b] = f"<0x{b:02X}>", BYTE
    merges = ["\n \n"]
    plain = [SPACE, *(chr(c) for c in range(33, 127)), "é", "😀"]
    for piece in MERGED:
        for cut in range(1, len(piece)):
            if piece[:cut] in plain and piece[cut:] in plain:
                plain.append(piece)
                merges.append(f"{piece[:cut]} {piece[cut:]}")
                break
    tokens += plain + list(MEDIA)
    types += [NORMAL] * len(plain) + [CONTROL] * len(MEDIA)
    return tokens, types, merges


@cache
def small_tokenizer() -> Tokenizer:
    """The tiny vocabulary as a Tokenizer."""
    return Tokenizer.from_vocabulary(*small_vocabulary(), native_cutter)


@cache
def gguf_metadata(path: Path = REAL_VOCABULARY) -> dict[str, Any]:
    """Metadata of a trusted GGUF file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Reader(data[:]).metadata()


def real_vocabulary() -> tuple[list[str], list[int], list[str]]:
    """Tokens, types and merges of Gemma 4's own vocabulary; skips the test where it is absent."""
    if not REAL_VOCABULARY.exists():
        pytest.skip(f"needs Gemma 4's vocabulary at {REAL_VOCABULARY}")
    meta = gguf_metadata()
    return tuple(meta[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "merges"))  # type: ignore[return-value]


@cache
def real_tokenizer() -> Tokenizer:
    """Gemma 4's own vocabulary as a Tokenizer; skips the test where it is absent."""
    return Tokenizer.from_vocabulary(*real_vocabulary(), native_cutter)


class _Reader:
    SCALARS: ClassVar = {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> Any:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def string(self) -> str:
        (size,) = self.take("Q")
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == 8:
            return self.string()
        if kind == 9:
            inner, count = self.take("IQ")
            if inner in self.SCALARS:
                return list(self.take(f"{count}{self.SCALARS[inner]}"))
            return [self.value(inner) for _ in range(count)]
        return self.take(self.SCALARS[kind])[0]

    def metadata(self) -> dict[str, Any]:
        _, _, _, count = self.take("IIQQ")
        found = {}
        for _ in range(count):
            key = self.string()
            found[key] = self.value(self.take("I")[0])
        return found
