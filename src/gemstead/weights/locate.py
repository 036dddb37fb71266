"""From the path a person names to the files of one model: a GGUF set, or a folder with config.json.

Refuses, in plain words, the files and folders people name by mistake. Opens nothing but first bytes.
Neighbour: store.py, which reads what is found here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gemstead.errors import WeightsError
from gemstead.weights.mapped import MappedFile, kind_by_first_bytes, listed, plain_os_error
from gemstead.weights.safetensors import INDEX_NAME

_WHAT_OPENS = (
    "name a .gguf file, or a folder with config.json and .safetensors files (or with one .gguf model)"
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
# Weights in containers gemstead does not read, by suffix.
_PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")
_OTHERS = (".litertlm", ".task", ".tflite", ".keras", ".h5", ".onnx", ".npz", ".msgpack")


@dataclass(frozen=True)
class Located:
    """Where a model's weights are. `config` is None for GGUF; `index` says weights is a shard index."""

    weights: Path
    config: Path | None = None
    index: bool = False


def locate(path: Path) -> Located:
    """The files meant by `path`; WeightsError saying what was found instead."""
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        words = plain_os_error(error) if isinstance(error, OSError) else str(error)
        raise WeightsError(f"cannot open {path}: {words}") from error
    if is_folder:
        return _locate_in_folder(path)
    if not exists:
        circle = " (it is a symbolic link that leads nowhere)" if path.is_symlink() else ""
        raise WeightsError(f"cannot open {path}: no such file or folder{circle}; {_WHAT_OPENS}")
    if path.name in ("config.json", INDEX_NAME):
        return _locate_in_folder(path.parent)
    return _locate_file(path)


def _locate_file(path: Path) -> Located:
    file = MappedFile(path)
    try:
        head = bytes(file.buffer[:64])
    finally:
        file.close()
    if head.startswith(b"GGUF"):  # whatever its name: ollama keeps models as sha256-...
        return Located(path)
    kind = kind_by_first_bytes(head)
    if kind is not None:
        raise WeightsError(f"{path} is {kind}")
    if path.suffix == ".gguf":
        raise WeightsError(f"{path} is no GGUF file: it begins with {head[:4]!r}")
    if path.suffix == ".safetensors":
        return _locate_safetensors(path)
    if path.suffix in _PICKLES:
        raise WeightsError(
            f"{path} is named like a Python pickle, which can run code when loaded; convert it to safetensors"
        )
    raise WeightsError(f"{path} is no weight file gemstead knows; {_WHAT_OPENS}")


def _locate_safetensors(path: Path) -> Located:
    config = path.with_name("config.json")
    if path.name == "adapter_model.safetensors":
        raise WeightsError(f"{path} is a LoRA adapter, not a model; open the model it was trained on")
    if not config.exists():
        raise WeightsError(f"cannot open {path}: config.json, which describes the model, is not beside it")
    index = path.with_name(INDEX_NAME)
    if _SHARD.search(path.stem) and index.exists():
        return Located(index, config, index=True)
    return Located(path, config)


def _locate_in_folder(folder: Path) -> Located:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise WeightsError(f"cannot open {folder}: {plain_os_error(error)}") from error
    config = folder / "config.json"
    safetensors = [name for name in names if name.endswith(".safetensors")]
    if "config.json" in names and INDEX_NAME in names:
        return Located(folder / INDEX_NAME, config, index=True)
    weights = [name for name in safetensors if name != "adapter_model.safetensors"]
    if "config.json" in names and weights:
        if "model.safetensors" not in weights and len(weights) > 1:
            raise WeightsError(
                f"{folder} holds {len(weights)} safetensors files but no {INDEX_NAME}: {listed(weights)}; "
                "fetch the index too, or name one file"
            )
        return Located(
            folder / ("model.safetensors" if "model.safetensors" in weights else weights[0]), config
        )
    ggufs = [name for name in names if name.endswith(".gguf") and not is_mmproj(name)]
    sets = {re.sub(r"-\d{5}-of-(\d{5}\.gguf)$", r"-\1", name): name for name in reversed(ggufs)}
    if len(sets) == 1:
        return Located(folder / next(iter(sets.values())))
    if sets:
        raise WeightsError(
            f"{folder} holds {len(sets)} GGUF models; name one of them: {listed(sorted(sets.values()))}"
        )
    raise WeightsError(f"cannot open {folder}: {_why_nothing(names, safetensors)}; {_WHAT_OPENS}")


def is_mmproj(name: str) -> bool:
    """Whether a file's name says that it is the image and sound side of a model."""
    return "mmproj" in name.lower()


def _why_nothing(names: list[str], safetensors: list[str]) -> str:
    """What the folder holds instead of a model."""
    if "adapter_config.json" in names:
        return "it holds a LoRA adapter, not a model"
    if safetensors:
        return "it holds safetensors files but no config.json, which describes the model"
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        return f"its weights are Python pickles ({listed(pickles)}), which can run code when loaded"
    others = [name for name in names if name.endswith(_OTHERS)]
    if others:
        return f"its weights are in a container gemstead does not read: {listed(others)}"
    if any(is_mmproj(name) and name.endswith(".gguf") for name in names):
        return "it holds only the image and sound side of a model (mmproj), not its text side"
    if "config.json" in names:
        return "it holds config.json but no safetensors file"
    return "it holds no model"
