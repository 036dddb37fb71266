"""Writes the shards that train.py reads, and the held-out questions that evaluate.py asks.

    python recipes/pebble/build_data.py --out recipes/pebble/out/data --tokens 12M

Shards: {train,heldout}.{ids,mask,starts}.npy, as train.py describes. heldout is made of the wordings,
names and numbers kept from training; so is questions.jsonl, one short conversation a line with the
calls and the answer expected as of its `today`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from corpus.conversation import ROW_TOKENS, Conversations, encode
from corpus.serial import Serializer
from corpus.turn import Turn

from gemstead.text.control import CONTROL_TEXTS
from gemstead.text.tokenizer import Tokenizer


def serializer(vocab: Path) -> Serializer:
    """A serializer for a vocabulary that vocab.py wrote."""
    saved = json.loads(vocab.read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_vocabulary(saved["tokens"], saved["types"], saved["merges"])
    special = {text: i for text in CONTROL_TEXTS.values() if (i := tokenizer.id_of(text)) is not None}
    return Serializer(tokenizer.encode, special)


def write_shard(
    folder: Path, name: str, part: str, tokens: int, seed: int, made: Serializer, row_tokens: int
) -> dict[str, Any]:
    """One shard of about `tokens` tokens; returns what is in it."""
    source = Conversations(part, seed)
    ids, mask = np.empty(tokens + 2000, np.uint16), np.empty(tokens + 2000, np.uint8)
    starts, at = [], 0
    intents: Counter[str] = Counter()
    while at < tokens:
        conversation = source.draw(made, row_tokens)
        encoded = encode(conversation, made)
        end = at + len(encoded.ids)
        ids[at:end], mask[at:end] = encoded.ids, encoded.mask
        starts.append(at)
        at = end
        intents.update(turn.intent for turn in conversation.turns)
    np.save(folder / f"{name}.ids.npy", ids[:at])
    np.save(folder / f"{name}.mask.npy", mask[:at])
    np.save(folder / f"{name}.starts.npy", np.array(starts, np.int64))
    lengths = np.diff([*starts, at])
    return {
        "tokens": at,
        "documents": len(starts),
        "turns": sum(intents.values()),
        "learned_share": round(float(mask[:at].mean()), 3),
        "longest": int(lengths.max()),
        "intents": dict(intents.most_common()),
    }


def questions(count: int, seed: int, part: str = "held") -> list[dict[str, Any]]:
    """Short conversations in held-out wordings; the last turn is the one to be judged.

    No two of them end in the same words: a bank with few held-out sentences would count for too much.
    """
    today = date.today()
    source = Conversations(part, seed, today)
    rng = random.Random(seed)
    out, seen = [], set()
    while len(out) < count:
        turns = source.turns(rng.choices([1, 2, 3], [60, 25, 15])[0])
        words = " ".join(re.findall(r"[a-z]+|#", re.sub(r"\d[\d.,:/-]*", "#", turns[-1].user.lower())))
        if words in seen:
            continue
        seen.add(words)
        out.append({"today": today.isoformat(), "turns": [described(turn) for turn in turns]})
    return out


def described(turn: Turn) -> dict[str, Any]:
    """A turn as JSON."""
    calls = [{"name": c.name, "arguments": dict(c.arguments), "result": c.result} for c in turn.calls]
    return {"user": turn.user, "calls": calls, "answer": turn.answer, "intent": turn.intent}


def amount(text: str) -> int:
    """'12M' -> 12,000,000."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1].lower(), 1)
    return int(float(text.rstrip("kKmM")) * scale)


def main() -> None:
    """Write everything into --out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("recipes/pebble/out/data"))
    parser.add_argument("--vocab", type=Path, default=Path("recipes/pebble/out/vocab.json"))
    parser.add_argument("--tokens", type=amount, default=amount("12M"), help="of training data, such as 12M")
    parser.add_argument("--row-tokens", type=int, default=ROW_TOKENS, help="no document is longer")
    parser.add_argument("--heldout", type=amount, default=amount("200k"))
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    made, began = serializer(flags.vocab), time.perf_counter()
    report = {
        "train": write_shard(flags.out, "train", "train", flags.tokens, flags.seed, made, flags.row_tokens),
        "heldout": write_shard(
            flags.out, "heldout", "held", flags.heldout, flags.seed, made, flags.row_tokens
        ),
    }
    asked = questions(flags.questions, flags.seed)
    lines = "".join(json.dumps(q, ensure_ascii=False) + "\n" for q in asked)
    (flags.out / "questions.jsonl").write_text(lines, encoding="utf-8")
    (flags.out / "report.json").write_text(json.dumps(report, indent=1))
    for name, found in report.items():
        print(name, {k: v for k, v in found.items() if k != "intents"})
    print(f"{time.perf_counter() - began:.0f} s; {len(asked)} questions -> {flags.out}")


if __name__ == "__main__":
    main()
