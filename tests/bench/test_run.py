"""What `just bench` runs: pebble measured, and a line of the history for every row."""

from __future__ import annotations

import make_random
import run

from gemstead.machine.costs import Cost
from gemstead.machine.probe import Machine, Reading
from gemstead.machine.report import Report, Row, Sample


def report():
    sample = Sample(10, 2.0, Cost(1e9, 0.0, 1.0), Reading(1e9, 1e9))
    return Report(
        model="m",
        path="p",
        format="q8_0",
        weights_bytes=1,
        backend="native",
        threads=2,
        machine=Machine("x", "avx2", 2, 1 << 30),
        probed={},
        rows=[Row("decode", 2048, 4, [sample])],
        readings=[],
        skipped=[],
        others=0.25,
        peak_bytes=123,
        kv_bytes=1,
    )


def test_every_row_becomes_a_line():
    decode, memory = run.history(report(), "a try")
    assert (decode.measure, decode.unit, decode.ours) == ("decode @2048 x4", "tok/s", 5.0)
    assert decode.note == "50% of memory; others used 25%; a try"
    assert (memory.measure, memory.ours) == ("peak memory", 123.0)


def test_pebble_and_a_model_are_measured(tmp_path, monkeypatch, capsys):
    path = tmp_path / "m.gguf"
    make_random.main(["tiny-e2b", "q8_0", str(path)])
    appended = []
    monkeypatch.setattr(run, "append", lambda lines: appended.extend(lines) or len(appended))
    run.main([str(path), "--threads", "1"])
    out = capsys.readouterr().out
    assert out.index("pebble  (") < out.index("random-tiny-e2b  (")
    assert {line.model for line in appended} == {"pebble", "random-tiny-e2b"}
    before = len(appended)
    run.main(["--threads", "1", "--dry-run"])
    assert len(appended) == before
