"""A calibrated pebble is nearer to the one it was made from, on conversations that neither has seen."""

from __future__ import annotations

import numpy as np
import pytest
from corpus.conversation import Conversations
from corpus.serial import pieces_of

import gemstead
from gemstead import pebble
from gemstead.engine.importance import measure_importance
from gemstead.weights.quantize import Conversion
from gemstead.weights.store import open_store


def windows(part: str, seed: int, count: int) -> list[list[int]]:
    """Conversations of one part of the corpus, without the instructions that all of them begin with."""
    conversations, text = Conversations(part, seed), ""
    while len(text) < 4 * count:
        for turn in conversations.turns(8):
            pieces = pieces_of(turn, thinking=False, thoughts=False)
            text += "".join(said for said, is_control, _ in pieces if not is_control).split("user\n", 1)[-1]
    with gemstead.open() as model:
        ids = model.tokenizer.encode(text)[:count]
    return [[2, *ids[i : i + 255]] for i in range(0, len(ids), 255)]


@pytest.fixture(scope="module")
def importance():
    with open_store(pebble.path()) as store:
        return measure_importance(store, windows("train", 1, 4000), 1)


@pytest.mark.parametrize("mixture", ["q4_0", "q4_k_m"])
def test_calibrated_is_nearer_to_the_source(tmp_path, importance, mixture) -> None:
    held_out = windows("held", 2, 2000)

    def scores(path) -> np.ndarray:
        with gemstead.open(path, backend="reference") as model:
            found = np.concatenate([model.logits(ids) for ids in held_out]).astype(np.float64)
        found -= found.max(-1, keepdims=True)
        return found - np.log(np.exp(found).sum(-1, keepdims=True))

    source, divergence = scores(pebble.path()), []
    with open_store(pebble.path()) as store:
        for given in (None, importance):
            path = tmp_path / f"{given is None}.gguf"
            Conversion(store, path, mixture).run(importance=given)
            divergence.append((np.exp(source) * (source - scores(path))).sum(-1).mean())
    print(f"{mixture}: KL {divergence[0]:.4f} plain, {divergence[1]:.4f} calibrated")
    assert divergence[1] < divergence[0]
