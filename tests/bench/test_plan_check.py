"""Predicted beside measured: one small model through the whole check, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import plan_check
import pytest


def given(context):
    return SimpleNamespace(context=context, threads=1, vocab=None, rounds=1)


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    return plan_check.check("pebble", "q8_0", tmp_path_factory.mktemp("check"), given(512))


def test_a_small_model_is_predicted_and_measured(row):
    assert row.threads == 1
    assert 0.7 * row.m_bytes < row.p_bytes < 1.5 * row.m_bytes  # mostly Python itself at this size
    for predicted, measured in ((row.p_prefill, row.m_prefill), (row.p_decode, row.m_decode)):
        assert measured > 1
        assert predicted > 1
    assert row.m_deep_prompt_s > 0
    assert row.line().startswith("pebble q8_0: memory ")


def test_what_missed_a_goal_is_named(row):
    exact = replace(row, p_bytes=row.m_bytes, p_prefill=row.m_prefill, p_decode=row.m_decode)
    assert exact.misses() == []
    off = replace(exact, p_bytes=int(1.06 * row.m_bytes), p_decode=0.79 * row.m_decode)
    assert off.misses() == ["memory", "decode"]
    assert off.line().endswith("MISSED memory, decode")


def test_a_newer_row_takes_the_place_of_the_older(row, tmp_path):
    file = tmp_path / "rows.csv"
    for variant, context in (("31b", 1), ("e2b", 2), ("31b", 3)):
        plan_check.keep(replace(row, variant=variant, format="q4_0", context=context), file)
    assert [(kept["variant"], kept["context"]) for kept in plan_check.read(file)] == [
        ("e2b", "2"),
        ("31b", "3"),
    ]


def test_a_full_disk_is_said(tmp_path, monkeypatch, capsys):
    usage = plan_check.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(plan_check.shutil, "disk_usage", lambda _: usage._replace(free=1 << 30))
    assert plan_check.check("31b", "q4_0", tmp_path, given(4096)) is None
    assert "31b q4_0: left out, needs 38 GB of disk, 1 GB are free" in capsys.readouterr().out


def test_an_unknown_model_is_wrong_usage():
    with pytest.raises(SystemExit):
        plan_check.main(["e2b:q2_k"])
