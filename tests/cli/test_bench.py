"""`gemstead bench` from the command line, on models written here and on pebble."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest

from gemstead.cli import bench as command
from gemstead.cli.bench import number
from gemstead.machine.probe import Reading
from gemstead.spec.tensors import text_tensors
from gemstead.spec.variants import VARIANTS
from gemstead.weights.model_file import write_model_gguf


class Steady:
    """Stands in for the probing process."""

    pids = ()

    def __init__(self, threads: int, size_bytes: int, *, in_int8: bool) -> None:
        assert in_int8 is not None
        self.about = {"bytes_s": f"{size_bytes >> 20} MiB", "operations_s": f"{threads} threads"}

    def read(self) -> Reading:
        return Reading(2e10, 1e11)

    def __enter__(self) -> Steady:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture(autouse=True)
def steady(monkeypatch):
    monkeypatch.setattr(command, "Prober", Steady)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    spec = VARIANTS["tiny-e4b"]
    arrays = {row.name: 0.1 * rng.standard_normal(row.shape, dtype=np.float32) for row in text_tensors(spec)}
    file = tmp_path_factory.mktemp("bench") / "tiny.gguf"
    write_model_gguf(file, spec, arrays, "q8_0", metadata={"general.name": "a\x1b]0;x\x07b"})
    return file


def bench(gem, path, *args):
    return gem("bench", str(path), "--quick", "--backend", "reference", "--threads", "1", *args)


def test_the_table(gem, path):
    ran = bench(gem, path, "--repeat", "2")
    assert (ran.code, ran.err) == (0, "")
    out = ran.out.splitlines()
    assert out[0].startswith("a]0;xb  (q8_0, ")  # the name cannot steer the terminal
    assert out[0].endswith("reference on 1 thread)")
    measured = [line.split()[0] for line in out if "tok/s" in line]
    assert measured == ["prefill", "decode", "decode"]
    assert any(line.lstrip().startswith("first token") and " s " in line for line in out)
    assert "20.0 GB/s" in ran.out
    assert "100 GOP/s" in ran.out
    assert "set aside for K/V" in ran.out


def test_json(gem, path):
    data = json.loads(bench(gem, path, "--json", "--repeat", "2").out)
    assert (data["format"], data["backend"], data["threads"]) == ("q8_0", "reference", 1)
    assert data["machine"]["cores"] >= 1
    decode = [row for row in data["rows"] if row["measure"] == "decode"]
    assert [row["sequences"] for row in decode] == [1, 4]
    for row in decode:
        assert row["unit"] == "tok/s"
        assert len(row["samples"]) == 2
        assert 0 < row["value"]["least"] <= row["value"]["median"] <= row["value"]["greatest"]
        assert 0 < row["share"]["median"] < 1


def test_without_a_model_it_is_pebble(gem):
    ran = gem("bench", "--quick", "--repeat", "1")
    assert ran.code == 0
    assert ran.out.startswith("pebble  (q8_0, ")
    assert "measuring pebble, the small model that comes with gemstead" in ran.err


def test_a_plot(gem, path, tmp_path):
    pytest.importorskip("matplotlib", reason="--plot needs matplotlib")
    target = tmp_path / "speed.png"
    ran = bench(gem, path, "--repeat", "1", "--plot", str(target))
    assert ran.code == 0, ran.err
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_fails_first(gem, path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = bench(gem, path, "--plot", str(tmp_path / "speed.png"))
    assert (ran.code, ran.out) == (1, "")
    assert "needs matplotlib, which cannot be imported here" in ran.err
    assert "pip install matplotlib" in ran.err


def test_a_plot_into_no_folder_fails_first(gem, path, tmp_path):
    pytest.importorskip("matplotlib", reason="--plot needs matplotlib")
    ran = bench(gem, path, "--plot", str(tmp_path / "none" / "speed.png"))
    assert ran.code == 2
    assert "does not exist" in ran.err


def test_a_file_that_is_no_model(gem, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"hello")
    ran = gem("bench", str(file))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")


@pytest.mark.parametrize(("others", "trusted"), [(0.02, True), (0.4, False)])
def test_a_busy_machine_is_told(others, trusted):
    (line,) = command.busy(types.SimpleNamespace(others=others))
    assert f"{100 * others:.0f}% of the machine" in line
    assert ("trusted" in line) is not trusted
    assert command.busy(types.SimpleNamespace(others=None)) == []


def test_numbers_keep_three_digits():
    values = (12_345.6, 123.4, 12.34, 1.234, 0.1234, 0.01234)
    assert [number(value) for value in values] == ["12,346", "123", "12.3", "1.23", "0.123", "0.0123"]


def test_a_picture_of_no_known_kind_is_refused_before_anything_is_measured(gem, tmp_path):
    ran = gem("bench", "--quick", "--plot", str(tmp_path / "b.xyz"))
    assert ran.code == 2
    assert "must end in .png, .svg, .pdf" in ran.err
    assert ran.out == ""
