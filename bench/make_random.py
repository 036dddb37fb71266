"""Writes a GGUF with random weights and the true shapes of a variant: for speed, not for sense.

gemstead and llama.cpp both open it. Tensors are written one after the other from a small tile of packed
values, so any size fits in memory, and the file appears whole or not at all. Formats per tensor follow
what llama-quantize chooses, so that bytes per token compare.

    python bench/make_random.py e2b q4_0 /tmp/e2b.gguf --vocab ggml-vocab-gemma-4.gguf
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gemstead.spec.describe import metadata_of, rope_freqs_of
from gemstead.spec.gguf import Tensors, model_from_metadata
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import TensorSpec, text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.text import control
from gemstead.weights.formats import get
from gemstead.weights.gguf_write import Value, write_gguf
from gemstead.weights.mixture import MIXTURES, mix_formats
from gemstead.weights.model_file import vocabulary_metadata
from gemstead.weights.vocabulary import Vocabulary, read_vocabulary
from gemstead.weights.writing import Bytes, Entry, entry_from_array

SPREAD = 0.02  # of the matrices' values
TILE_VALUES = 1 << 20

# Ids of Gemma's vocabulary; the others are in TokenIds. Kinds are ggml's token types.
NORMAL, UNKNOWN, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6
FIRST_CONTROLS = 5  # the lowest ids, which the tiny variants have too
NEWLINE, FIRST_BYTE, FIRST_PIECE = 107, 238, 494
LEAST_VOCABULARY = 1024  # what a tokenizer with byte fallback and letters needs, rounded up


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file and say how large it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variant", choices=sorted(VARIANTS))
    parser.add_argument("format", choices=list(MIXTURES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocab", type=Path, help="take the vocabulary of this GGUF; else a made-up one")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    spec = roomy(VARIANTS[given.variant])
    vocabulary = synthetic_vocabulary(spec) if given.vocab is None else read_vocabulary(given.vocab)
    write(given.out, spec, given.format, vocabulary, given.seed)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


def roomy(spec: ModelSpec) -> ModelSpec:
    """The spec itself, or for the tiny variants with a vocabulary that can spell any text."""
    size = max(spec.vocab_size, LEAST_VOCABULARY)
    return replace(
        spec, vocab_size=size, vocab_size_per_layer_input=size if spec.hidden_size_per_layer_input else 0
    )


def write(path: Path, spec: ModelSpec, recipe: str, vocabulary: Vocabulary, seed: int = 0) -> None:
    """Write the model; SystemExit when a reader would not get `spec` back."""
    rng = np.random.default_rng(seed)
    rows = text_tensors(spec)
    formats = mix_formats(rows, recipe)
    tiles: dict[str, Bytes] = {}
    entries = [entry(row, formats.get(row.name, "f32"), tiles, rng) for row in rows]
    divisors = np.array(rope_freqs_of(spec), dtype=np.float32)
    entries.append(entry_from_array("rope_freqs.weight", divisors, "f32"))
    keys: dict[str, Value] = {
        "general.type": "model",
        "general.name": f"random-{spec.name}",
        "general.description": "random weights of the true shape: for measuring speed only",
        "general.quantization_version": 2,
        "general.file_type": MIXTURES[recipe].file_type,
        **vocabulary_metadata(vocabulary, spec.vocab_size),
        **metadata_of(spec),
    }
    shapes = Tensors({e.name: e.shape for e in entries}, divisors.tolist())
    back = model_from_metadata(keys, spec.name, spec.vocab_size, shapes)
    if back != replace(spec, vision=None, audio=None):
        raise SystemExit(f"GGUF cannot say {spec.name}: it would be read back as {back}")
    write_gguf(path, keys, entries)


def entry(row: TensorSpec, format_name: str, tiles: dict[str, Bytes], rng: np.random.Generator) -> Entry:
    """A tensor whose bytes are made while they are written."""
    name = row.gguf[0][0]
    if not row.may_quantize:
        values = np.ones(row.shape, np.float32)  # scales and norms near 1 keep every layer alive
        if row.shape != (1,):
            values += 0.1 * rng.standard_normal(row.shape, dtype=np.float32)
        if len(row.shape) > 1:
            values -= 1  # the router
        return entry_from_array(name, values, format_name)
    fmt = get(format_name)
    if format_name not in tiles:
        values = SPREAD * rng.standard_normal((TILE_VALUES // 256, 256), dtype=np.float32)
        tiles[format_name] = fmt.pack(values).reshape(-1)
    tile = tiles[format_name]
    start = int(rng.integers(len(tile) // fmt.block_bytes)) * fmt.block_bytes
    whole = Entry(name, row.shape, fmt, lambda: ())

    def chunks() -> Iterator[Bytes]:
        left, at = whole.nbytes, start
        while left:
            piece = tile[at : at + left]
            yield piece
            left, at = left - len(piece), 0

    return replace(whole, chunks=chunks)


def synthetic_vocabulary(spec: ModelSpec) -> Vocabulary:
    """Tokens at Gemma's ids where they matter, bytes, ASCII, and numbered pieces for the rest."""
    tokens = [f"piece{i}" for i in range(spec.vocab_size)]
    types = [NORMAL] * spec.vocab_size
    places = {place: text for place, text in control.LOW_IDS.items() if place < FIRST_CONTROLS}
    if 106 in spec.tokens.eos:  # the tiny variants end at <eos> alone
        places |= control.LOW_IDS
        media = {
            spec.tokens.image: control.IMAGE,
            spec.tokens.image_begin: control.IMAGE_OPEN,
            spec.tokens.image_end: control.IMAGE_CLOSE,
            spec.tokens.audio: control.AUDIO,
            spec.tokens.audio_begin: control.AUDIO_OPEN,
            spec.tokens.audio_end: control.AUDIO_CLOSE,
            spec.tokens.video: control.VIDEO,
        }
        places |= {place: text for place, text in media.items() if place < spec.vocab_size}
    for place, text in places.items():
        tokens[place], types[place] = text, CONTROL
    types[3] = UNKNOWN
    for byte in range(256):
        tokens[FIRST_BYTE + byte], types[FIRST_BYTE + byte] = f"<0x{byte:02X}>", BYTE
    tokens[NEWLINE] = "\n"
    letters = ["▁", *(chr(code) for code in range(33, 127)), "th"]
    tokens[FIRST_PIECE : FIRST_PIECE + len(letters)] = letters
    return Vocabulary(
        tokens,
        types,
        merges=["t h"],
        special={"bos": spec.tokens.bos, "eos": 1, "padding": spec.tokens.pad, "unknown": 3},
    )


if __name__ == "__main__":
    main()
