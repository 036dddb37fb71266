"""What a machine can do does not change with its load: the best is kept, for this machine and for a month."""

from __future__ import annotations

import json
import time

import pytest

from gemstead.machine import host, kept
from gemstead.machine.kept import best_known
from gemstead.machine.plan import plan
from gemstead.machine.rates import derived_rates

QUIET, BUSY = derived_rates(40e9, 400e9), derived_rates(4e9, 20e9)


def test_a_busy_moment_changes_nothing_and_a_better_one_does(tmp_path):
    assert best_known(BUSY, "cpu", 4, tmp_path) == BUSY
    assert best_known(QUIET, "cpu", 4, tmp_path) == QUIET
    assert best_known(BUSY, "cpu", 4, tmp_path) == QUIET
    assert [path.name for path in tmp_path.iterdir()] == ["rates.json"]


def test_each_rate_counts_for_itself(tmp_path):
    best_known(derived_rates(40e9, 20e9), "cpu", 4, tmp_path)
    both = best_known(derived_rates(4e9, 400e9), "cpu", 4, tmp_path)
    assert (both.bytes_s, both.int8_s) == (40e9, 400e9)
    assert both.kernel("q4_0") == QUIET.kernel("q4_0")


@pytest.mark.parametrize("changed", [{"processor": "other"}, {"threads": 2}])
def test_another_machine_is_measured_anew(tmp_path, changed):
    asked = {"processor": "cpu", "threads": 4}
    best_known(QUIET, **asked, folder=tmp_path)
    assert best_known(BUSY, **asked | changed, folder=tmp_path) == BUSY


def test_after_a_month_it_is_measured_anew(tmp_path, monkeypatch):
    best_known(QUIET, "cpu", 4, tmp_path)
    now = time.time()
    monkeypatch.setattr(kept.time, "time", lambda: now + 31 * 24 * 3600)
    assert best_known(BUSY, "cpu", 4, tmp_path) == BUSY


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"key": None, "since": "x"})])
def test_a_damaged_file_is_as_none(tmp_path, text):
    (tmp_path / "rates.json").write_text(text)
    assert best_known(BUSY, "cpu", 4, tmp_path) == BUSY
    assert best_known(QUIET, "cpu", 4, tmp_path) == QUIET


def test_without_a_cache_nothing_is_kept(monkeypatch):
    monkeypatch.setenv("GEMSTEAD_CACHE", "")
    assert best_known(QUIET, "cpu", 4) == QUIET
    assert best_known(BUSY, "cpu", 4) == BUSY


def test_the_recommendation_does_not_flip_with_the_load(tmp_path, monkeypatch):
    """The same free memory, rates of a quiet and then of a busy moment: one recommendation."""
    monkeypatch.setenv("GEMSTEAD_CACHE", str(tmp_path))
    monkeypatch.setattr(host, "available_bytes", lambda: 12_000_000_000)
    monkeypatch.setattr(host, "measured_rates", lambda _: QUIET)
    first = plan()
    monkeypatch.setattr(host, "measured_rates", lambda _: BUSY)
    again = plan()
    assert (again.best.title, again.best.verdict) == (first.best.title, first.best.verdict)
    assert again.host.notes[-1].startswith("it was faster before")
    (tmp_path / "rates.json").unlink()
    assert plan().best.verdict != first.best.verdict
