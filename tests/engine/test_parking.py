"""Prefixes on disk: found again after a restart and after eviction, never believed when damaged."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemstead.engine.draft import MtpDrafter
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.engine.parking import Parking, share_of
from gemstead.errors import ConfigError
from gemstead.types import SamplingParams
from support.hashing_backend import VOCAB, HashingBackend, HashingCache, oracle_logits

PAGE, TOKEN_BYTES = 4, 32
PROMPT = [int(x) for x in np.random.default_rng(0).integers(0, VOCAB, 60)]
OTHER = [int(x) for x in np.random.default_rng(1).integers(0, VOCAB, 60)]
GREEDY = SamplingParams(temperature=0, max_tokens=5)


def engine(folder, pages=60, drafter=None, **options):
    options = {"page_tokens": PAGE, "max_rows": 32, "max_sequences": 4, "prefix_folder": folder, **options}
    memory = pages * PAGE * TOKEN_BYTES
    return Engine(HashingBackend(), EngineOptions(memory_bytes=memory, **options), drafter)


def ask(running, prompt):
    """Run a prompt; the tokens it reused. The output is checked against the oracle."""
    sequence = running.submit(prompt, GREEDY)
    running.wait(sequence, until_finished=True)
    assert sequence.finish_reason == "length"
    ids = list(prompt)
    for accepted in sequence.outputs:
        assert accepted.token_id == int(oracle_logits(ids, running.spec).argmax())
        ids.append(accepted.token_id)
    return sequence.cached_tokens


@pytest.mark.parametrize("drafter", [None, MtpDrafter])
def test_a_restart_finds_what_was_read(tmp_path, drafter):
    first = engine(tmp_path, drafter=drafter and drafter())
    assert ask(first, PROMPT) == 0
    first.close()
    second = engine(tmp_path, drafter=drafter and drafter())
    assert ask(second, PROMPT) >= 56
    assert ask(second, PROMPT[:30] + OTHER) in range(8, 30)
    second.close()


def test_what_was_parked_while_idle_outlives_a_power_cut(tmp_path):
    first = engine(tmp_path)
    ask(first, PROMPT)
    first.park()  # and it is never closed
    assert ask(engine(tmp_path), PROMPT) >= 56


OWN, OLD, NEWER = "a" * 40, "b" * 40, "c" * 40  # folders as fingerprints call them


def test_models_share_one_ceiling(tmp_path):
    page = 2 * 8 * PAGE + 16
    for name in (OLD, NEWER, "0" * 39):
        other = Parking(tmp_path / name, cache(), 1 << 20)
        for i in range(4):
            other.save(0, bytes([i]), i)
            os.utime(tmp_path / name / f"0-0{i}.kv", (i, 1000 * (name == NEWER) + i))
    (tmp_path / OLD / "notes.txt").write_text("mine")
    (tmp_path / OLD / "2024-01.txt.kv").write_text("mine")
    assert share_of(tmp_path / OWN, 10 * page) == 5 * page
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    assert [name for name in left if name.startswith(NEWER)] == [f"{NEWER}/0-0{i}.kv" for i in range(4)]
    assert [name for name in left if name.startswith(OLD)] == [
        *(f"{OLD}/{name}" for name in ("0-03.kv", "2024-01.txt.kv", "notes.txt"))
    ]
    assert len(left) == 11
    assert share_of(tmp_path / NEWER, 10 * page) == 9 * page
    assert share_of(tmp_path / "none" / "own", 77) == 77


def test_no_more_than_half_of_the_free_disk_is_taken(tmp_path, monkeypatch):
    own = Parking(tmp_path / OWN, cache(), 1 << 20)
    own.save(0, b"\0", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert share_of(tmp_path / OWN, 1 << 20) == own.bytes_held + 500
    assert share_of(tmp_path / "not" / "there", 1 << 20) == 500


def test_parking_more_than_there_is_room_for_ends(tmp_path):
    running = engine(tmp_path, prefix_bytes=500)
    ask(running, PROMPT)
    running.park()
    held, saved = sorted(tmp_path.iterdir()), running.pages._parking.saved
    assert sum(path.stat().st_size for path in held) <= 500
    assert saved > 2
    running.park()
    assert (sorted(tmp_path.iterdir()), running.pages._parking.saved) == (held, saved)


def test_parking_stops_when_it_is_not_wanted(tmp_path):
    running = engine(tmp_path)
    ask(running, PROMPT)
    answers = iter([True, True, False])
    running.park(lambda: next(answers))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_shrank_is_opened_within_its_size(tmp_path):
    page = 2 * 8 * PAGE + 16
    first = Parking(tmp_path, cache(), 4 * page)
    for i in range(4):
        first.save(0, bytes([i]), i)
    again = Parking(tmp_path, cache(), 2 * page)
    assert len(list(tmp_path.iterdir())) == 2
    assert again.bytes_held == 2 * page


def test_what_was_evicted_comes_back(tmp_path):
    running = engine(tmp_path, pages=20, context_tokens=80)
    assert ask(running, PROMPT) == 0
    assert ask(running, OTHER) == 0
    assert ask(running, PROMPT) >= 56
    assert ask(running, OTHER) >= 56


def test_without_a_folder_it_does_not(tmp_path):
    running = engine(None, pages=20, context_tokens=80)
    ask(running, PROMPT)
    ask(running, OTHER)
    assert ask(running, PROMPT) < 56
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["flip", "short", "empty", "gone"])
def test_damaged_pages_are_computed_again(tmp_path, damage):
    first = engine(tmp_path)
    ask(first, PROMPT)
    first.close()
    second = engine(tmp_path)
    for path in list(tmp_path.glob("*.kv"))[::3]:
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        {
            "flip": lambda p=path, r=raw: p.write_bytes(r),
            "short": lambda p=path, r=raw: p.write_bytes(r[:-8]),
            "empty": lambda p=path: p.write_bytes(b""),
            "gone": lambda p=path: p.unlink(),
        }[damage]()
    assert ask(second, PROMPT) < 56  # and the output was right
    second.close()
    assert ask(engine(tmp_path), PROMPT) >= 56


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_schedule_gives_the_same_output(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kv")
    for _ in range(data.draw(st.integers(1, 3))):
        running = engine(folder, pages=data.draw(st.integers(20, 40)), context_tokens=80)
        for _ in range(data.draw(st.integers(1, 4))):
            cut = data.draw(st.integers(1, 60))
            head, tail = data.draw(st.sampled_from([(PROMPT, OTHER), (OTHER, PROMPT), (PROMPT, [])]))
            ask(running, (head[:cut] + tail)[:70])
        running.close()


def cache():
    made = HashingCache((8, 8), PAGE)
    for pool in made.pools:
        pool[:] = np.arange(pool.size).reshape(pool.shape)
    return made


def test_the_folder_keeps_its_size_and_the_least_used_go(tmp_path):
    page = 2 * 8 * PAGE + 16
    parking = Parking(tmp_path, cache(), 3 * page)
    for i in range(3):
        parking.save(0, bytes([i]), i)
    assert parking.load(0, b"\0", 7)
    parking.save(1, b"\3", 3)
    assert parking.has(0, b"\0")
    assert not parking.has(0, b"\1")
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) == parking.bytes_held == 3 * page
    parking.save(0, b"\4", 1)
    again = Parking(tmp_path, cache(), 3 * page)
    assert {n for n in range(5) if again.has(0, bytes([n])) or again.has(1, bytes([n]))} == {0, 3, 4}
    tiny = Parking(tmp_path / "tiny", cache(), 10)
    tiny.save(0, b"\0", 0)
    assert tiny.bytes_held == 0


def test_what_comes_back_is_what_was_saved(tmp_path):
    made = cache()
    parking = Parking(tmp_path, made, 1 << 20)
    parking.save(1, b"key", 5)
    parking.save(1, b"key", 6)  # known already
    assert (parking.saved, parking.load(1, b"nokey", 0)) == (1, False)
    assert parking.load(1, b"key", 2)
    assert (made.pools[1][2] == made.pools[1][5]).all()


def test_stray_files_are_left_alone_and_parts_are_swept(tmp_path):
    for name in ("notes.txt", "1-zz.kv", "x.kv", "0-00.77.part", "2024-1.kv"):
        (tmp_path / name).write_text("x")
    Parking(tmp_path, cache(), 1 << 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1-zz.kv", "2024-1.kv", "notes.txt", "x.kv"]


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"the prefix cache .* cannot be used"):
        engine(tmp_path / "file")


def test_a_full_disk_is_no_error(tmp_path, monkeypatch):
    parking = Parking(tmp_path, cache(), 1 << 20)
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    parking.save(0, b"key", 0)
    assert not parking.has(0, b"key")
