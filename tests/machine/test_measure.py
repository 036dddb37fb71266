"""Measuring a tiny model: every point of the plan is met, with the costs of exactly what was run."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.errors import CapacityError, ConfigError
from gemstead.machine.costs import Step
from gemstead.machine.measure import Plan, measure, open_subject, play
from gemstead.machine.probe import Reading
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import drafter_tensors, text_tensors
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.model_file import write_model_gguf

PLAN = Plan(depths=(0, 64, 10_000), sequences=(1, 3), prompt_tokens=32, new_tokens=4, repeat=2)


class Steady:
    """A machine that always allows the same."""

    about = {"bytes_s": "nothing", "operations_s": "nothing"}  # noqa: RUF012
    pids = ()
    asked = 0

    def read(self) -> Reading:
        self.asked += 1
        return Reading(1e10, 1e12)


def write(path, spec):
    rng = np.random.default_rng(0)
    rows = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
    arrays = {
        row.name: rng.permutation(row.shape[0])
        if row.integer
        else 0.1 * rng.standard_normal(row.shape, dtype=np.float32)
        for row in rows
    }
    write_model_gguf(path, spec, arrays, "q8_0")
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("measure") / "tiny.gguf", VARIANTS["tiny-e2b"])


@pytest.fixture
def subject(path):
    with open_subject(path, PLAN, "reference", 1) as opened:
        yield opened


def test_every_point_is_measured(subject):
    probe, told = Steady(), []
    report = measure(subject, PLAN, probe, told.append)
    points = [(row.measure, row.depth, row.sequences) for row in report.rows]
    assert points == [
        ("prefill", 0, 1),
        ("prefill", 64, 1),
        ("decode", 0, 1),
        ("decode", 64, 1),
        ("decode", 0, 3),
        ("first token", 32, 1),
        ("first token", 64, 1),
    ]
    assert all(len(row.samples) == PLAN.repeat for row in report.rows)
    assert probe.asked == len(report.readings) + 1  # the first was before the model was warm
    assert report.skipped == ["depth 10,000: more than the model's context or the memory for K/V holds"]
    assert (report.model, report.format, report.backend) == ("tiny-e2b", "q8_0", "reference")
    assert report.peak_bytes > report.kv_bytes > 0
    assert told[0] == "warming up"
    assert report.others is None or 0 <= report.others <= 1


def test_costs_are_of_what_was_run(subject):
    report = measure(subject, PLAN, Steady())
    by_point = {(row.measure, row.depth, row.sequences): row for row in report.rows}
    costs = subject.costs
    for depth in (0, 64):
        for sample in by_point["prefill", depth, 1].samples:
            assert (sample.tokens, sample.cost) == (32, costs.of(Step(depth, 32)))
        for sample in by_point["decode", depth, 1].samples:
            assert (sample.tokens, sample.cost) == (4, costs.of(Step(depth + 2)).times(4))
    (sample, _) = by_point["decode", 0, 3].samples
    assert (sample.tokens, sample.cost) == (12, costs.of(Step(2, 1, 3)).times(4))
    assert by_point["first token", 64, 1].samples[0].cost == costs.of(Step(0, 64))
    held = [row.kv_bytes for row in (by_point["decode", 0, 1], by_point["decode", 0, 3])]
    assert 0 < held[0] < held[1]


def test_an_expensive_prompt_is_read_once(subject, monkeypatch):
    monkeypatch.setattr("gemstead.machine.measure._CHEAP_S", 0.0)
    report = measure(subject, PLAN, Steady())
    rows = {(row.measure, row.depth): row for row in report.rows if row.sequences == 1}
    assert len(rows["first token", 64].samples) == 1
    for measured in ("prefill", "decode"):
        assert len(rows[measured, 64].samples) == PLAN.repeat
        assert {sample.tokens for sample in rows[measured, 64].samples} <= {4, 32}


def test_playing_counts_rows_and_steps(subject):
    played = play(subject, [[5] * 20], 3)
    assert played.prompt_rows == 20
    assert len(played.decode_s) == 3
    assert played.prompt_s > 0
    assert subject.kv_live_bytes() == 0  # pages are back
    again = play(subject, [[5] * 33], 0, salt=b"other")
    assert again.prompt_rows == 33


def test_too_many_sequences_are_left_out(subject, monkeypatch):
    monkeypatch.setattr(subject.engine.scheduler, "_max_sequences", 2)
    with pytest.raises(CapacityError, match="3 sequences do not fit"):
        play(subject, [[5], [6], [7]], 1)
    report = measure(subject, PLAN, Steady())
    assert not [row for row in report.rows if row.sequences == 3]
    assert any(reason.startswith("3 sequences: ") for reason in report.skipped)


def test_a_drafter_cannot_be_measured(tmp_path):
    with pytest.raises(ConfigError, match="is a drafter"):
        open_subject(write(tmp_path / "d.gguf", DRAFTERS["tiny-12b"]), PLAN)


def test_a_short_context_is_filled_in_part(path):
    plan = Plan(prompt_tokens=5000, new_tokens=5000)
    with open_subject(path, plan, "reference", 1) as opened:
        assert opened.prompt_tokens == VARIANTS["tiny-e2b"].max_position_embeddings // 4
        assert opened.depths == [0]
