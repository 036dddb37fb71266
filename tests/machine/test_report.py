"""What a report says of its samples."""

import json

import pytest

from gemstead.machine.costs import Cost
from gemstead.machine.probe import Machine, Reading
from gemstead.machine.report import Report, Row, Sample, Spread

READING = Reading(bytes_s=100.0, operations_s=1000.0)


def sample(seconds, weight_bytes=50.0, operations=1.0):
    return Sample(10, seconds, Cost(weight_bytes, 0.0, operations), READING)


def test_spread():
    spread = Spread.of([3.0, 1.0, 2.0])
    assert spread == Spread(median=2.0, least=1.0, greatest=3.0)
    assert spread.relative == 0.5
    assert Spread.of([7.0]).relative == 0


def test_a_speed_and_its_share():
    row = Row("decode", 0, 1, [sample(1.0), sample(2.0), sample(5.0)])
    assert (row.unit, row.values) == ("tok/s", Spread(5.0, 2.0, 10.0))
    assert row.shares == Spread(0.25, 0.1, 0.5)
    assert row.bound == "memory"
    assert Row("prefill", 0, 1, [sample(1.0, operations=1e6)]).bound == "compute"


def test_a_first_token_is_a_time():
    row = Row("first token", 512, 1, [sample(0.5), sample(0.25), sample(1.0)])
    assert (row.unit, row.values.median) == ("s", 0.5)


def test_everything_becomes_json():
    report = Report(
        model="m",
        path="p",
        format="q8_0",
        weights_bytes=1,
        backend="native",
        threads=2,
        machine=Machine("x", "avx2", 2, 1 << 30),
        probed={"bytes_s": "reading", "operations_s": "computing"},
        rows=[Row("decode", 0, 1, [sample(1.0)])],
        readings=[READING, Reading(300.0, 1000.0)],
        skipped=[],
        others=0.25,
        peak_bytes=1,
        kv_bytes=1,
    )
    data = json.loads(json.dumps(report.as_json()))
    assert data["probes"]["bytes_s"] == {
        "what": "reading",
        "median": 200.0,
        "least": 100.0,
        "greatest": 300.0,
    }
    (row,) = data["rows"]
    assert row["value"]["median"] == pytest.approx(10.0)
    assert row["samples"][0]["cost"]["weight_bytes"] == 50.0
    assert data["machine"]["isa"] == "avx2"
