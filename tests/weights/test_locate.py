"""From paths to models: what is found, and what people are told who name something else."""

from pathlib import Path

import pytest

from gemstead.errors import WeightsError
from gemstead.weights.locate import Located, locate
from gemstead.weights.safetensors import INDEX_NAME

GGUF = b"GGUF\x03" + bytes(64)
SAFETENSORS = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"


def fill(folder: Path, *names: str) -> Path:
    """Files of the right first bytes for their names."""
    folder.mkdir(exist_ok=True)
    for name in names:
        kind = {".gguf": GGUF, ".json": b"{}", ".safetensors": SAFETENSORS}
        (folder / name).write_bytes(kind.get(Path(name).suffix, b"something"))
    return folder


def test_a_gguf_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "sha256-0123").write_bytes(GGUF)
    assert locate(tmp_path / "sha256-0123") == Located(tmp_path / "sha256-0123")


def test_folders(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", "config.json", "model.safetensors", "other.safetensors", "m.gguf")
    assert locate(folder) == Located(folder / "model.safetensors", folder / "config.json")
    folder = fill(tmp_path / "b", "config.json", "weights.safetensors", "adapter_model.safetensors")
    assert locate(folder) == Located(folder / "weights.safetensors", folder / "config.json")
    folder = fill(tmp_path / "c", "config.json", "model.safetensors", INDEX_NAME)
    assert locate(folder) == Located(folder / INDEX_NAME, folder / "config.json", index=True)
    folder = fill(tmp_path / "d", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj-m.gguf")
    assert locate(folder) == Located(folder / "m-00001-of-00002.gguf")
    folder = fill(tmp_path / "e", "m.gguf", "config.json")
    assert locate(folder) == Located(folder / "m.gguf")


def test_files_of_a_folder(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", "config.json", "model.safetensors")
    want = Located(folder / "model.safetensors", folder / "config.json")
    assert locate(folder / "model.safetensors") == want
    assert locate(folder / "config.json") == want
    folder = fill(tmp_path / "b", "config.json", "model-00001-of-00002.safetensors")
    single = locate(folder / "model-00001-of-00002.safetensors")
    assert single == Located(folder / "model-00001-of-00002.safetensors", folder / "config.json")
    fill(folder, INDEX_NAME)
    want = Located(folder / INDEX_NAME, folder / "config.json", index=True)
    assert locate(folder / "model-00001-of-00002.safetensors") == want
    assert locate(folder / INDEX_NAME) == want


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((), "it holds no model"),
        (("README.md",), "it holds no model"),
        (("config.json",), "config.json but no safetensors"),
        (("model.safetensors",), "no config.json"),
        (("config.json", "pytorch_model.bin"), r"Python pickles \(pytorch_model.bin\)"),
        (("model.litertlm",), "does not read: model.litertlm"),
        (("mmproj-m.gguf",), "only the image and sound side"),
        (("adapter_config.json", "adapter_model.safetensors"), "LoRA adapter"),
        (("a.gguf", "b.gguf"), "2 GGUF models; name one of them: a.gguf, b.gguf"),
        (("config.json", "1.safetensors", "2.safetensors"), f"no {INDEX_NAME}"),
    ],
)
def test_folders_without_a_model(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        locate(fill(tmp_path / "m", *names))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.pth", b"PK\x03\x04...", "pickle"),
        ("model.ckpt", b"\x80\x02}", "pickle"),
        ("pytorch_model.bin", b"unknown", "named like a Python pickle"),
        ("model.litertlm", b"LITERTLM", "LiteRT-LM"),
        ("model.gguf", b"GGML", "no GGUF file"),
        ("model.gguf", b"", "is empty"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        ("model.safetensors", SAFETENSORS, "config.json, which describes the model"),
        ("adapter_model.safetensors", SAFETENSORS, "LoRA adapter"),
        ("notes.txt", b"hello", "no weight file gemstead knows"),
    ],
)
def test_other_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        locate(tmp_path / name)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no such file or folder; name a .gguf file"):
        locate(tmp_path / "absent")
    (tmp_path / "gone").symlink_to("absent")
    with pytest.raises(WeightsError, match="symbolic link that leads nowhere"):
        locate(tmp_path / "gone")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(WeightsError, match=r"circle|no such file"):
        locate(tmp_path / "circle")
    for odd in ("a\0b", "x" * 5000):
        with pytest.raises(WeightsError, match="cannot open"):
            locate(tmp_path / odd)
