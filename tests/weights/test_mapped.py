"""Mapped files: what is opened at all, and views that cannot leave the file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gemstead.errors import WeightsError
from gemstead.weights.formats import TABLE
from gemstead.weights.gguf import read_gguf
from gemstead.weights.mapped import MappedFile, StoredTensor, check_overlaps, kind_by_first_bytes, listed


def test_a_folder_and_a_pipe_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not a regular file"):
        read_gguf(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(WeightsError, match="not a regular file"):
        read_gguf(tmp_path / "pipe.gguf")
    (tmp_path / "a.gguf").symlink_to("b.gguf")
    (tmp_path / "b.gguf").symlink_to("a.gguf")
    with pytest.raises(WeightsError, match="in a circle"):
        read_gguf(tmp_path / "a.gguf")
    with pytest.raises(WeightsError, match="no such file"):
        read_gguf(tmp_path / "absent.gguf")


def test_a_view_outlives_the_file(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"abcdef")
    file = MappedFile(tmp_path / "m")
    view = file.view(1, 3)
    file.close()
    file.close()
    assert view.tobytes() == b"bcd"
    assert not view.flags.writeable
    with pytest.raises(WeightsError, match="has been closed"):
        file.view(0, 1)


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, 7), (6, 1), (2, -1), (2**63, 1), (0, 2**64)])
def test_a_view_cannot_leave_the_file(tmp_path: Path, start: int, count: int) -> None:
    (tmp_path / "m").write_bytes(b"abcdef")
    file = MappedFile(tmp_path / "m")
    with pytest.raises(WeightsError, match="too short"):
        file.view(start, count)
    file.close()


def test_overlaps_name_both_tensors(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(bytes(100))
    file = MappedFile(tmp_path / "m")
    places = {"a": (0, 40), "b": (40, 20), "c": (56, 8)}
    tensors = [
        StoredTensor(n, TABLE["f32"], (size // 4,), file, at, size) for n, (at, size) in places.items()
    ]
    check_overlaps(tensors[:2], file.path)
    with pytest.raises(WeightsError, match="'b' and 'c' overlap: the first ends at byte 60"):
        check_overlaps(tensors, file.path)
    file.close()


def test_files_named_by_mistake_are_known() -> None:
    assert "pickle" in str(kind_by_first_bytes(b"\x80\x04\x95"))
    assert "LiteRT-LM" in str(kind_by_first_bytes(b"LITERTLM\x01\x00"))
    assert "TensorFlow Lite" in str(kind_by_first_bytes(b"\x1c\x00\x00\x00TFL3"))
    assert "web page" in str(kind_by_first_bytes(b"<!DOCTYPE html>"))
    assert kind_by_first_bytes(bytes(64)) is None


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(i) for i in range(50)]).endswith("19, ... (50 in all)")


def test_a_file_is_opened_anew_only_while_its_name_means_it(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(b"one")
    mapped = MappedFile(path)
    with mapped.reopened() as again:
        assert again.read() == b"one"
    (tmp_path / "other").write_bytes(b"two")
    (tmp_path / "other").replace(path)
    assert mapped.reopened() is None
    path.unlink()
    assert mapped.reopened() is None
    mapped.close()


def test_more_than_may_be_mapped(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("RLIMIT_AS is only enforced on Linux")
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.truncate(4 << 30)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "from pathlib import Path; from gemstead.weights.mapped import MappedFile;"
        "MappedFile(Path(sys.argv[1]))"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False, env=environment
    )
    assert "4,294,967,296 bytes are more than may be mapped; see ulimit -v" in ran.stderr
