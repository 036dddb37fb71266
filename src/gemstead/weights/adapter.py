"""Reads a LoRA adapter as PEFT saves it: a folder of adapter_config.json and adapter_model.safetensors.

Refuses, by name, everything that would make the result another one than what the backends compute (DoRA,
saved modules, biases, embeddings, experts, changed base weights), and an adapter of another model with a
list of all that does not fit. What an adapter says of its settings: adapter_config.py. Neighbour: store.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gemstead.errors import WeightsError
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import TensorSpec, dense_linears, is_ignorable
from gemstead.weights.adapter_config import Settings, read_settings
from gemstead.weights.mapped import Closing, StoredTensor, brief, listed
from gemstead.weights.safetensors import SafetensorsFile, read_safetensors
from gemstead.weights.tensor import Tensor

CONFIG_NAME, WEIGHTS_NAME, PICKLE_NAME = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
FORMATS = ("f32", "f16", "bf16")

# A module's path and which of its two matrices; a state dict saved by hand still names the adapter.
_NAME = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")
# What else PEFT writes into an adapter file, and what it means.
_OTHER_PARTS = (
    (".lora_magnitude_vector", "DoRA"),
    (".lora_embedding_", "LoRA on the embeddings"),
    ("modules_to_save.", "modules saved whole (modules_to_save)"),
    (".lora_B.bias", "a bias of its own (lora_bias)"),
    (".lora_A.bias", "a bias of its own (lora_bias)"),
    (".trainable_tokens", "trained tokens (trainable_token_indices)"),
    (".experts.", "LoRA on the experts"),
    ("lm_head.", "LoRA on the head"),
    ("embed_tokens", "LoRA on the embeddings"),
    (".bias", "trained biases"),
)


@dataclass(frozen=True, slots=True)
class LowRank:
    """What an adapter adds to one linear: scale * B (A x), with A [rank, in] and B [out, rank]."""

    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """Rows of A, columns of B."""
        return self.a.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of both matrices in the file."""
        return self.a.nbytes + self.b.nbytes


@dataclass(frozen=True)
class Adapter(Closing):
    """An opened adapter: its terms by the canonical names of the linears. Close it, or use it in `with`.

    `digest` is a hash of all that decides its results. `passed_over` counts matrices for the encoders of
    images and sound, which are not computed. The matrices must not be read after closing.
    """

    path: Path
    terms: Mapping[str, LowRank] = field(repr=False)
    digest: bytes
    passed_over: int
    source: SafetensorsFile = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all matrices."""
        return sum(term.nbytes for term in self.terms.values())

    @property
    def rank(self) -> int:
        """The largest rank of its terms."""
        return max(term.rank for term in self.terms.values())

    def close(self) -> None:
        """Unmap the file."""
        self.source.close()


def open_adapter(path: str | Path, spec: ModelSpec) -> Adapter:
    """Open the adapter in the folder `path` (or the one that holds this file) for a model of this spec.

    WeightsError for anything that is no such adapter, that does not fit the model, or that asks for what
    gemstead does not compute.
    """
    folder = _folder(Path(path))
    settings = read_settings(folder / CONFIG_NAME)
    source = read_safetensors(folder / WEIGHTS_NAME)
    try:
        pairs, passed_over = _pairs(source, spec, folder)
        terms = _terms(pairs, settings, folder)
        return Adapter(folder, terms, _digest(terms), passed_over, source)
    except BaseException:
        source.close()
        raise


def _folder(path: Path) -> Path:
    """The folder that holds both files; WeightsError saying what is there instead."""
    folder = path.parent if path.name in (CONFIG_NAME, WEIGHTS_NAME, PICKLE_NAME) else path
    try:
        there = {x.name for x in folder.iterdir()} if folder.is_dir() else set()
        is_folder = folder.is_dir()
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot open the adapter {path}: {error}") from error
    wanted = f"an adapter is a folder with {CONFIG_NAME} and {WEIGHTS_NAME}, as PEFT saves it"
    if not is_folder:
        raise WeightsError(f"cannot open the adapter {path}: there is no such folder; {wanted}")
    if WEIGHTS_NAME not in there and PICKLE_NAME in there:
        raise WeightsError(
            f"{folder / PICKLE_NAME} is a Python pickle, which can run code when loaded; save the adapter as "
            "safetensors (PEFT: save_pretrained(folder, safe_serialization=True))"
        )
    missing = [name for name in (CONFIG_NAME, WEIGHTS_NAME) if name not in there]
    if missing:
        is_model = "; it holds a whole model, to be opened as one" if "config.json" in there else ""
        raise WeightsError(
            f"cannot open the adapter {folder}: {listed(missing)} is missing{is_model}; {wanted}"
        )
    return folder


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two matrices of a linear, under the module's path as the file has it."""

    module: str
    linear: TensorSpec
    a: StoredTensor
    b: StoredTensor


def _pairs(source: SafetensorsFile, spec: ModelSpec, folder: Path) -> tuple[list[_Pair], int]:
    """The matrices of every linear, each with its partner, and how many were passed over."""
    linears = {name.removesuffix(".weight"): t for t in dense_linears(spec) for name in t.hf_names}
    found: dict[str, dict[str, tuple[str, StoredTensor]]] = {}
    others: dict[str, None] = {}
    unknown: list[str] = []
    passed_over = 0
    for name, tensor in source.tensors.items():
        match = _NAME.fullmatch(name)
        module = match[1] if match else name.removeprefix("base_model.model.")
        if match and module in linears:
            sides = found.setdefault(linears[module].name, {})
            if match[2] in sides:
                raise WeightsError(
                    f"{folder}: {brief(name)} is there twice, as {brief(sides[match[2]][1].name)} too"
                )
            sides[match[2]] = (module, tensor)
        elif is_ignorable(f"{module}.weight", spec) and not module.endswith("lm_head"):
            passed_over += "vision" in module or "audio" in module  # else: of layers that read other K/V
        elif reason := next((what for part, what in _OTHER_PARTS if part in name), None):
            others[reason] = None
        else:
            unknown.append(name)
    if others:
        raise WeightsError(
            f"the adapter {folder} holds {', '.join(others)}, which gemstead does not compute at run time; "
            "merge it into the model with PEFT (merge_and_unload), or train without"
        )
    if unknown:
        raise WeightsError(f"the adapter {folder} does not fit {spec.name}, which has no {listed(unknown)}")
    if not found:
        raise WeightsError(f"the adapter {folder} changes nothing of {spec.name}'s text model")
    return [_paired(name, sides, linears, folder) for name, sides in found.items()], passed_over


def _paired(
    name: str,
    sides: Mapping[str, tuple[str, StoredTensor]],
    linears: Mapping[str, TensorSpec],
    folder: Path,
) -> _Pair:
    if len(sides) == 1:
        missing = "B" if "A" in sides else "A"
        raise WeightsError(f"the adapter {folder} has no lora_{missing} for {name}; it is not whole")
    module = sides["A"][0]
    return _Pair(module, linears[module], sides["A"][1], sides["B"][1])


def _terms(pairs: list[_Pair], settings: Settings, folder: Path) -> dict[str, LowRank]:
    """The terms, or one WeightsError for all that does not fit."""
    terms: dict[str, LowRank] = {}
    wrong: list[str] = []
    for pair in pairs:
        name, (rows, columns) = pair.linear.name, pair.linear.shape
        rank = settings.rank_of(pair.module)
        wanted = {pair.a: (rank, columns), pair.b: (rows, rank)}
        faults = [
            f"{brief(t.name)} is {t.shape}, {name} needs {shape}"
            for t, shape in wanted.items()
            if t.shape != shape
        ]
        faults += [
            f"{brief(t.name)} is {t.format.name}, allowed are {', '.join(FORMATS)}"
            for t in wanted
            if t.format.name not in FORMATS
        ]
        if not faults:
            a, b = (Tensor(name, shape, [t]) for t, shape in wanted.items())
            terms[name] = LowRank(a, b, settings.scale_of(pair.module, rank))
            faults = [
                f"{brief(t.name)} holds NaN or infinity"
                for t, x in zip(wanted, (a, b), strict=True)
                if not x.is_finite()
            ]
        wrong += faults
    if wrong:
        raise WeightsError(
            f"the adapter {folder} does not fit: {'; '.join(wrong[:20])}"
            + (f"; ... ({len(wrong)} in all)" if len(wrong) > 20 else "")
            + "; use an adapter that was trained on this model"
        )
    return terms


def _digest(terms: Mapping[str, LowRank]) -> bytes:
    digest = hashlib.blake2b(digest_size=20)
    for name, term in sorted(terms.items()):
        for tensor in (term.a, term.b):
            digest.update(f"{name} {term.scale!r} {tensor.format} {tensor.shape}\n".encode())
            for raw in tensor.raw():
                digest.update(raw.data)
    return digest.digest()
