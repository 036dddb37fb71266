"""gemstead verify: what is sound, what is not, and how it says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gemstead import pebble
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.store import open_store
from support.repositories import E2B, MMPROJ, WEIGHTS
from support.weight_files import save_folder, save_gguf, split_folder


def states(ran) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(ran.out)["checks"]}


def test_pebble_is_sound(gem):
    ran = gem("verify")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == f"{pebble.path()} is sound"
    found = states(gem("verify", "pebble", "--json"))
    assert found == {
        "files": "ok",
        "tensors": "ok",
        "values": "ok",
        "template": "note",
        "vocabulary": "ok",
        "computes": "ok",
    }


def test_a_pebble_that_is_another(gem, tmp_path, monkeypatch):
    path = tmp_path / "pebble.gguf"
    path.write_bytes(pebble.path().read_bytes()[:-1] + b"!")
    said = pebble.path().with_suffix(".sha256").read_text()
    path.with_suffix(".sha256").write_text(said)
    monkeypatch.setattr(pebble, "path", lambda: path)
    ran = gem("verify", "pebble")
    assert ran.code == 1
    assert f"and should have {said.split()[0]}" in ran.out


def test_a_pulled_model_by_name_and_one_changed_byte(hub, gem):
    hub.repos[E2B][WEIGHTS] = pebble.path().read_bytes()
    path = gem("pull", "e2b").out.strip()
    ran = gem("verify", "e2b")
    assert ran.code == 0, ran.out
    assert "2 of 2 files have the SHA-256 it should" in ran.out
    with open_store(path) as store:
        at = store.tensors["layers.3.mlp.up_proj"].parts[0].start + 10
    real = Path(path).resolve()
    real.chmod(0o644)
    raw = bytearray(real.read_bytes())
    raw[at] ^= 1
    real.write_bytes(raw)
    ran = gem("verify", "e2b")
    assert ran.code == 1
    assert "and should have" in ran.out
    assert ran.out.splitlines()[-1].endswith("is NOT sound")
    Path(path).with_name(MMPROJ).unlink()
    assert f"{MMPROJ} is missing" in gem("verify", path).out


def test_a_value_that_is_no_number(gem, tmp_path, monkeypatch):
    monkeypatch.setattr("gemstead.weights.bind._READ_BYTES", 0)  # as for a model too large to read at once
    path = tmp_path / "m.gguf"
    path.write_bytes(pebble.path().read_bytes())
    with open_store(path) as store:
        at = store.tensors["layers.3.mlp.up_proj"].parts[0].start
    raw = bytearray(path.read_bytes())
    raw[at : at + 2] = np.float16("nan").tobytes()
    path.write_bytes(raw)
    ran = gem("verify", str(path), "--json")
    assert ran.code == 1
    assert states(ran)["values"] == "fault"
    assert "layers.3.mlp.up_proj holds 32 values that are NaN or infinite" in ran.out


def test_parts_that_are_not_there(gem, tmp_path):
    save_folder(tmp_path / "m", VARIANTS["tiny-e2b"])
    shards = split_folder(tmp_path / "m", 3)
    shards[1].unlink()
    ran = gem("verify", str(tmp_path / "m"))
    assert ran.code == 1
    assert "fault  files       missing in" in ran.out
    assert shards[1].name in ran.out
    save_gguf(tmp_path / "x-00001-of-00002.gguf", VARIANTS["tiny-e2b"])
    ran = gem("verify", str(tmp_path / "x-00001-of-00002.gguf"))
    assert (ran.code, "x-00002-of-00002.gguf" in ran.out) == (1, True)


def test_a_model_cut_short_and_one_that_is_no_model(gem, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(pebble.path().read_bytes()[:-1000])
    ran = gem("verify", str(path))
    assert ran.code == 1
    assert "it may be cut short" in ran.out
    path.write_bytes(b"GGUF" + bytes(100))
    ran = gem("verify", str(path), "--json")
    assert (ran.code, states(ran)["files"]) == (1, "fault")


def test_a_folder_without_a_tokenizer_is_not_whole(gem, tmp_path):
    save_folder(tmp_path / "m", VARIANTS["tiny-e2b"])
    ran = gem("verify", str(tmp_path / "m"), "--json")
    assert (ran.code, states(ran)["vocabulary"]) == (1, "fault")


@pytest.mark.parametrize("name", ["tiny-e2b"])
def test_a_drafter(gem, tmp_path, name):
    save_gguf(tmp_path / "d.gguf", DRAFTERS[name])
    ran = gem("verify", str(tmp_path / "d.gguf"), "--json")
    assert (ran.code, states(ran)["tensors"]) == (0, "ok")
