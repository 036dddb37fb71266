"""What a machine usually does: the upper quartile of what was measured of it within a month."""

from __future__ import annotations

import json
import time

import pytest

from gemstead.machine import host, kept
from gemstead.machine.kept import usual
from gemstead.machine.plan import plan
from gemstead.machine.rates import derived_rates

QUIET, BUSY = derived_rates(40e9, 400e9), derived_rates(4e9, 20e9)


def test_a_busy_moment_changes_nothing_and_a_better_one_does(tmp_path):
    assert usual(BUSY, "cpu", 4, tmp_path) == BUSY
    assert usual(QUIET, "cpu", 4, tmp_path) == QUIET
    assert usual(BUSY, "cpu", 4, tmp_path) == QUIET
    assert [path.name for path in tmp_path.iterdir()] == ["rates.json"]


def test_a_rare_burst_does_not_count_and_old_readings_go(tmp_path):
    rates = [derived_rates(speed * 1e9, 400e9) for speed in (40, 10, 11, 12, 13, 14, 15, 16)]
    assert [usual(one, "cpu", 4, tmp_path).bytes_s / 1e9 for one in rates] == [40, 40, 40, 12, 13, 14, 15, 15]
    for _ in range(16):
        assert usual(QUIET, "cpu", 4, tmp_path).bytes_s <= 40e9
    assert len(json.loads((tmp_path / "rates.json").read_text())["readings"]) == 16
    usual(BUSY, "cpu", 4, tmp_path)
    assert usual(BUSY, "cpu", 4, tmp_path) == QUIET


def test_each_rate_counts_for_itself(tmp_path):
    usual(derived_rates(40e9, 20e9), "cpu", 4, tmp_path)
    both = usual(derived_rates(4e9, 400e9), "cpu", 4, tmp_path)
    assert (both.bytes_s, both.int8_s) == (40e9, 400e9)
    assert both.kernel("q4_0") == QUIET.kernel("q4_0")


@pytest.mark.parametrize("changed", [{"processor": "other"}, {"threads": 2}])
def test_another_machine_is_measured_anew(tmp_path, changed):
    asked = {"processor": "cpu", "threads": 4}
    usual(QUIET, **asked, folder=tmp_path)
    assert usual(BUSY, **asked | changed, folder=tmp_path) == BUSY


def test_after_a_month_it_is_measured_anew(tmp_path, monkeypatch):
    usual(QUIET, "cpu", 4, tmp_path)
    now = time.time()
    monkeypatch.setattr(kept.time, "time", lambda: now + 31 * 24 * 3600)
    assert usual(BUSY, "cpu", 4, tmp_path) == BUSY


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"key": None, "since": "x"})])
def test_a_damaged_file_is_as_none(tmp_path, text):
    (tmp_path / "rates.json").write_text(text)
    assert usual(BUSY, "cpu", 4, tmp_path) == BUSY
    assert usual(QUIET, "cpu", 4, tmp_path) == QUIET


def test_without_a_cache_nothing_is_kept(monkeypatch):
    monkeypatch.setenv("GEMSTEAD_CACHE", "")
    assert usual(QUIET, "cpu", 4) == QUIET
    assert usual(BUSY, "cpu", 4) == BUSY


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
