"""How far two models are apart along a text: against scores computed whole, and what cannot be compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gemstead
from gemstead import pebble
from gemstead.errors import CapacityError, ConfigError
from gemstead.machine import compare as module
from gemstead.machine.compare import Opening, Passage, compare, log_softmax
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.quantize import Conversion
from gemstead.weights.store import open_store
from support.weight_files import save_folder, save_gguf

REFERENCE = Opening("reference", 1)


@pytest.fixture(scope="module")
def rounded(tmp_path_factory):
    """pebble in q4_0."""
    path = tmp_path_factory.mktemp("compare") / "q4.gguf"
    with open_store(pebble.path()) as store:
        Conversion(store, path, "q4_0").run()
    return path


def test_the_figures_are_those_of_whole_scores(rounded, monkeypatch):
    monkeypatch.setattr("gemstead.engine.engine._SCORE_BYTES", 4 * 4096 * 3)  # three rows a step
    rng = np.random.default_rng(0)
    passages = [Passage((2, *rng.integers(500, 2000, 40).tolist()), 1), Passage((2, *range(600, 630)), 11)]
    heard: list[int] = []
    found = compare(pebble.path(), rounded, passages, REFERENCE, heard.append)
    divergence, surprise, choices = [], [[], []], [[], []]
    for passage in passages:
        both = []
        for path in (pebble.path(), rounded):
            with gemstead.open(path, backend="reference") as model:
                scores = model.logits(passage.ids).astype(np.float64)[passage.given - 1 : -1]
            both.append(scores - np.log(np.exp(scores - 30).sum(-1, keepdims=True)) - 30)
        divergence += (np.exp(both[0]) * (both[0] - both[1])).sum(-1).tolist()
        for i in (0, 1):
            surprise[i] += [-row[t] for row, t in zip(both[i], passage.ids[passage.given :], strict=True)]
            choices[i] += both[i].argmax(-1).tolist()
    np.testing.assert_allclose(found.divergence, divergence, atol=1e-5)
    np.testing.assert_allclose(found.first.surprise, surprise[0], atol=1e-5)
    np.testing.assert_allclose(found.second.surprise, surprise[1], atol=1e-5)
    assert [found.first.choices, found.second.choices] == choices
    assert found.second.perplexity == pytest.approx(math.exp(np.mean(surprise[1])), rel=1e-5)
    assert found.agreement == np.mean(np.array(choices[0]) == choices[1])
    assert sum(heard) == 2 * sum(passage.judged for passage in passages) == 2 * (40 + 20)
    whole = found.as_json()
    assert whole["kl_max"] == max(found.divergence) >= whole["kl_p99"] >= whole["kl_median"] > 0
    assert whole["second"]["bytes"] < whole["first"]["bytes"]
    assert min(whole["first"]["decode_tokens_s"], whole["second"]["prefill_tokens_s"]) > 0


def test_a_model_does_not_differ_from_itself():
    found = compare(pebble.path(), pebble.path(), [Passage((2, *range(600, 640)))], REFERENCE)
    assert max(found.divergence) < 1e-6
    assert found.agreement == 1.0


def test_log_softmax_of_large_scores():
    rows = np.array([[1e4, 1e4 - 1, -1e4], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(np.exp(log_softmax(rows)).sum(-1), 1, rtol=1e-6)
    assert np.isfinite(log_softmax(rows)).all()


def test_what_cannot_be_compared(tmp_path, monkeypatch):
    passages = [Passage((2, 3, 4))]
    save_folder(tmp_path / "m", VARIANTS["tiny-e2b"])
    with pytest.raises(ConfigError, match="not two forms of one model"):
        compare(pebble.path(), tmp_path / "m", passages, REFERENCE)
    save_gguf(tmp_path / "d.gguf", DRAFTERS["tiny-e2b"])
    with pytest.raises(ConfigError, match="is a drafter"):
        compare(tmp_path / "d.gguf", tmp_path / "m", passages, REFERENCE)

    class Place:
        f_bavail, f_frsize = 100, 4096

    monkeypatch.setattr(module.os, "fstatvfs", lambda _: Place)
    with pytest.raises(CapacityError, match=r"0.0 MB a token, and 0.0 GB are free: take fewer --tokens"):
        compare(tmp_path / "m", tmp_path / "m", passages, REFERENCE)
