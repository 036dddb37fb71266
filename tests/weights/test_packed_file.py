"""Packed weights on disk: whole or not at all, checked, limited, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gemstead.weights.packed_file import PackedCache, default_folder

PIECES = {"a": np.arange(1000, dtype=np.uint8), "b": np.full(64, 7, np.uint8), "c": np.ones(3, np.uint8)}
SIZES = {name: piece.size for name, piece in PIECES.items()}


@pytest.fixture
def cache(tmp_path: Path) -> PackedCache:
    return PackedCache(tmp_path / "deep" / "packed", 60_000)


def keep(cache: PackedCache, key: str) -> bool:
    return cache.keep(key, SIZES, iter(PIECES.values()))


def test_what_is_kept_comes_back_read_only_and_aligned(cache: PackedCache) -> None:
    assert keep(cache, "k1")
    found = cache.open("k1", SIZES)
    assert found is not None
    for name, piece in PIECES.items():
        assert (found[name] == piece).all()
        assert not found[name].flags.writeable
        assert found[name].ctypes.data % 64 == 0
    assert [p.name for p in cache.folder.iterdir()] == ["k1.packed"]


def test_nothing_kept_is_nothing_found(cache: PackedCache) -> None:
    assert cache.open("k1", SIZES) is None
    keep(cache, "k1")
    assert cache.open("k2", SIZES) is None


@pytest.mark.parametrize("damage", ["short", "long", "magic", "renamed", "empty", "folder"])
def test_a_damaged_file_is_not_used_and_can_be_written_again(cache: PackedCache, damage: str) -> None:
    keep(cache, "k1")
    path = cache.folder / "k1.packed"
    raw = path.read_bytes()
    if damage == "renamed":
        path.rename(path.with_name("k2.packed"))
        assert cache.open("k2", SIZES) is None
        return
    if damage == "folder":
        path.unlink()
        path.mkdir()
        assert cache.open("k1", SIZES) is None
        assert not keep(cache, "k1")
        return
    path.write_bytes(
        {
            "short": raw[:-1],
            "long": raw + b"x",
            "magic": b"X" + raw[1:],
            "empty": b"",
        }[damage]
    )
    assert cache.open("k1", SIZES) is None
    assert keep(cache, "k1")
    assert cache.open("k1", SIZES) is not None


def test_the_least_used_goes_first(cache: PackedCache) -> None:
    for i in range(10):
        assert keep(cache, f"k{i}")
        os.utime(cache.folder / f"k{i}.packed", (i, i))
    assert len(list(cache.folder.iterdir())) == 10
    assert cache.open("k0", SIZES) is not None  # used just now
    for i in range(10, 13):
        assert keep(cache, f"k{i}")
    kept = {p.stem for p in cache.folder.iterdir()}
    assert "k0" in kept
    assert not {"k1", "k2"} & kept
    assert sum(p.stat().st_size for p in cache.folder.iterdir()) <= 60_000


def test_without_room_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = PackedCache(tmp_path / "small", 1000)
    assert not keep(small, "k1")
    monkeypatch.setattr("gemstead.weights.packed_file._LEAST_FREE_BYTES", 1 << 60)
    full = PackedCache(tmp_path / "full")
    assert not keep(full, "k1")
    assert not list((tmp_path / "small").iterdir()) + list((tmp_path / "full").iterdir())


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert not keep(PackedCache(tmp_path / "file" / "packed"), "k1")


def test_a_failing_piece_leaves_no_file(cache: PackedCache) -> None:
    def broken():
        yield PIECES["a"]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        cache.keep("k1", SIZES, broken())
    assert not list(cache.folder.iterdir())


def test_a_mapped_file_may_be_deleted(cache: PackedCache) -> None:
    keep(cache, "k1")
    found = cache.open("k1", SIZES)
    assert found is not None
    (cache.folder / "k1.packed").unlink()
    assert (found["a"] == PIECES["a"]).all()


def test_stale_parts_are_swept(cache: PackedCache) -> None:
    keep(cache, "k1")
    old, young = cache.folder / ".k2.packed.1-ab.part", cache.folder / ".k3.packed.1-ab.part"
    for part in (old, young):
        part.write_text("x")
    os.utime(old, (1, 1))
    keep(cache, "k4")
    assert not old.exists()
    assert young.exists()


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEMSTEAD_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "packed"
    monkeypatch.setenv("GEMSTEAD_CACHE", "")
    assert default_folder() is None
    monkeypatch.delenv("GEMSTEAD_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "gemstead/packed"
