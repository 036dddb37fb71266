"""Which hash a file should have, and what is said of files that have another."""

from __future__ import annotations

import hashlib

import pytest

from gemstead import pebble
from gemstead.errors import HubError
from gemstead.hub.manifest import NAME, FileRecord, Manifest
from gemstead.hub.verify import check_files, local_model

CONTENT = b"weights"
HASH = hashlib.sha256(CONTENT).hexdigest()


def ignore(_count: int) -> None:
    """Nobody listens."""


def test_a_manifest_says_size_and_hash(tmp_path):
    (tmp_path / "a.gguf").write_bytes(CONTENT)
    (tmp_path / "b.gguf").write_bytes(CONTENT)
    records = [
        FileRecord("a.gguf", len(CONTENT), HASH),
        FileRecord("b.gguf", len(CONTENT), "0" * 64),
        FileRecord("c.gguf", 5, HASH),
    ]
    Manifest("m", "a.gguf", tuple(records)).write(tmp_path / NAME)
    found = check_files((tmp_path / "a.gguf",), tmp_path / NAME, ignore)
    assert [check.fault for check in found] == [
        None,
        f"has the SHA-256 {HASH} and should have {'0' * 64}",
        "is missing",
    ]
    (tmp_path / "a.gguf").write_bytes(CONTENT + b"!")
    found = check_files((), tmp_path / NAME, ignore)
    assert found[0].fault == "has 8 bytes and should have 7"


def test_caches_name_their_files_by_hash(tmp_path):
    heard = []
    for name in (f"sha256-{HASH}", HASH):
        (tmp_path / name).write_bytes(CONTENT)
    (tmp_path / "pointer.gguf").symlink_to(tmp_path / HASH)
    files = (tmp_path / f"sha256-{HASH}", tmp_path / "pointer.gguf")
    assert all(
        check.expected == check.sha256 == HASH and check.fault is None
        for check in check_files(files, None, heard.append)
    )
    assert sum(heard) == 2 * len(CONTENT)
    (tmp_path / HASH).write_bytes(b"other")
    assert "should have" in str(check_files(files, None, ignore)[1].fault)


def test_where_nobody_says_the_hash_it_is_told(tmp_path):
    (tmp_path / "a.gguf").write_bytes(CONTENT)
    (check,) = check_files((tmp_path / "a.gguf",), None, ignore)
    assert (check.sha256, check.expected, check.fault) == (HASH, None, None)


def test_a_damaged_manifest_is_an_error(tmp_path):
    (tmp_path / NAME).write_text("{}")
    with pytest.raises(HubError):
        check_files((), tmp_path / NAME, ignore)


def test_a_model_is_found_by_its_path(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMSTEAD_MODELS", str(tmp_path))
    (tmp_path / "mine.gguf").write_bytes(pebble.path().read_bytes())
    assert local_model(tmp_path / "mine.gguf").name == "mine"
    assert local_model(pebble.path()) is None


def test_a_hash_beside_the_file_is_the_one_it_should_have(tmp_path):
    file = tmp_path / "m.gguf"
    file.write_bytes(b"x")
    right = hashlib.sha256(b"x").hexdigest()
    for said, expected in (
        (f"{right}  m.gguf\n", right),
        (f"{right} *m.gguf", right),
        (f"{right}  other.gguf\n", None),
        ("not a hash  m.gguf", None),
        ("", None),
    ):
        (tmp_path / "m.sha256").write_text(said)
        (check,) = check_files((file,), None, ignore)
        assert (check.expected, check.fault) == (expected, None)
    (tmp_path / "m.sha256").write_text(f"{'0' * 64}  m.gguf\n")
    assert "should have" in check_files((file,), None, ignore)[0].fault
