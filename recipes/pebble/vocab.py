"""Trains pebble's vocabulary: a BPE of exactly 4096 entries in Gemma 4's layout.

Control tokens stand at Gemma's own ids (the media ones, beyond our reach, at the top), '\\n' at 107,
bytes at 238 to 493. Digits are single tokens and nothing merges across words: learned with a splitter,
the merges give the same pieces at run time without one. Output: vocab.json with tokens, types, merges.

    python recipes/pebble/vocab.py --out recipes/pebble/out/vocab.json
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from corpus.conversation import Conversations
from corpus.serial import pieces_of
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from gemstead.agent.tools import BUILT_IN
from gemstead.text import control
from gemstead.text.template import render
from gemstead.text.tokenizer import BYTE, CONTROL, NORMAL, SPACE, UNUSED
from gemstead.types import Message

SIZE = 4096
NEWLINE_ID, FIRST_BYTE_ID, FIRST_PIECE_ID = 107, 238, 494
TOP = (  # in the order of Gemma 4's ids 255999 to 258884
    control.IMAGE_OPEN,
    control.AUDIO_OPEN,
    control.IMAGE,
    control.AUDIO,
    control.IMAGE_CLOSE,
    control.AUDIO_CLOSE,
    control.VIDEO,
)
EXTRA = "×÷−–—°²³½¼¾€£¥√πµéèêëàâäåáãçñíìîïóòôöõøúùûüßæœÉÄÖÜ’‘“”…•→≈≤≥≠±"
# A word with its blank, an identifier, a run of the tool language's marks, any other single character.
_SPLIT = rf"\n|\d|{SPACE}?[A-Za-z]+(?:_[a-z]+)*|[{{}}\[\]:,]+|{SPACE}?[^A-Za-z\d{SPACE}\n]|{SPACE}"


def texts(tokens: int, seed: int) -> Iterator[str]:
    """Text pieces of about `tokens` tokens' worth of rendered conversations."""
    prompt = render([Message.user("x")], BUILT_IN, add_generation_prompt=False)
    for _ in range(2000):  # in every prompt: each word of it shall be one token
        yield from runs((p.text, p.is_control) for p in prompt.pieces)
    conversations, written = Conversations("train", seed), 0
    while written < tokens * 4:
        for turn in conversations.turns(8):
            pieces = pieces_of(turn, thinking=True, thoughts=True)
            for text in runs((text, is_control) for text, is_control, _ in pieces):
                written += len(text)
                yield text


def runs(pieces: Iterable[tuple[str, bool]]) -> Iterator[str]:
    """The stretches of text between control tokens."""
    run = ""
    for text, is_control in [*pieces, ("", True)]:
        if not is_control:
            run += text
        elif run:
            yield run
            run = ""


def train(corpus: Iterator[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The learned pieces in rank order, and the merges."""
    alphabet = [chr(c) for c in range(33, 127)] + list(EXTRA) + [SPACE]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    room = SIZE - FIRST_PIECE_ID - len(TOP)
    trainer = trainers.BpeTrainer(
        vocab_size=room, initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False
    )
    lines = (line for text in corpus for line in text.replace(" ", SPACE).split("\n"))
    core.train_from_iterator(lines, trainer)
    state = json.loads(core.to_str())["model"]
    pieces = sorted(state["vocab"], key=state["vocab"].__getitem__)
    return pieces, [tuple(m) for m in state["merges"]]


def layout(pieces: list[str]) -> tuple[list[str], list[int]]:
    """All 4096 entries and their GGUF types."""
    tokens = [f"<unused{i}>" for i in range(SIZE)]
    types = [UNUSED] * SIZE
    for i, text in control.LOW_IDS.items():
        tokens[i], types[i] = text, CONTROL
    for i, text in enumerate(TOP, SIZE - len(TOP)):
        tokens[i], types[i] = text, CONTROL
    tokens[NEWLINE_ID], types[NEWLINE_ID] = "\n", NORMAL
    for byte in range(256):
        tokens[FIRST_BYTE_ID + byte], types[FIRST_BYTE_ID + byte] = f"<0x{byte:02X}>", BYTE
    for i, piece in enumerate(pieces, FIRST_PIECE_ID):
        tokens[i], types[i] = piece, NORMAL
    return tokens, types


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("recipes/pebble/out/vocab.json"))
    parser.add_argument("--tokens", type=int, default=1_500_000, help="about how much text to learn from")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    pieces, merges = train(texts(arguments.tokens, arguments.seed))
    tokens, types = layout(pieces)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    merged = [f"{a} {b}" for a, b in merges]
    arguments.out.write_text(
        json.dumps({"tokens": tokens, "types": types, "merges": merged}, ensure_ascii=False)
    )
    lengths = Counter(len(p) for p in pieces)
    print(f"{len(pieces)} pieces, {len(merges)} merges, longest {max(lengths)} -> {arguments.out}")


if __name__ == "__main__":
    main()
