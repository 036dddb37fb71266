"""A model on disk as one thing: its spec and its tensors by canonical name, whatever the container.

Refuses a model that is not whole: every missing, unknown or misshapen tensor is listed in one
WeightsError. Reads no weights while opening. Neighbours: locate.py, gguf.py, safetensors.py, spec/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gemstead.errors import ConfigError, WeightsError
from gemstead.spec.gguf import (
    DRAFTER_ARCHITECTURE,
    MODEL_ARCHITECTURE,
    Tensors,
    drafter_from_metadata,
    model_from_metadata,
)
from gemstead.spec.hf import drafter_from_config, is_drafter_config, model_from_config
from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.weights.bind import bind, in_gguf, in_safetensors
from gemstead.weights.gguf import GgufFile, read_gguf
from gemstead.weights.jsonfile import read_object
from gemstead.weights.locate import Located, locate
from gemstead.weights.mapped import Closing, brief
from gemstead.weights.safetensors import SafetensorsFile, read_safetensors, read_sharded
from gemstead.weights.sampling import from_generation_config, from_metadata
from gemstead.weights.tensor import Tensor
from gemstead.weights.vocabulary import Vocabulary, check_vocabulary, vocabulary_of

Kind = Literal["gguf", "safetensors"]
_MAX_PAIRS = 1 << 16  # of a head; Gemma 4 has 256
_MAX_TEMPLATE_BYTES = 1 << 20  # Gemma 4's has 16 kB


@dataclass(frozen=True)
class Store(Closing):
    """An opened model: spec, tensors, and what else its files say. Close it, or use it in `with`.

    `tokenizer_json` is the path of a Hugging Face tokenizer beside the weights, if there is one;
    `sampling` holds the sampling options its files ask for, unchecked, by SamplingParams' names.
    """

    path: Path
    kind: Kind
    spec: ModelSpec | DrafterSpec
    tensors: Mapping[str, Tensor] = field(repr=False)
    chat_template: str | None = field(repr=False)
    tokenizer_json: Path | None
    source: GgufFile | SafetensorsFile = field(repr=False)
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Bytes on disk of the tensors the forward reads."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def formats(self) -> dict[str, str]:
        """The number format of each tensor by its canonical name."""
        return {name: tensor.format for name, tensor in self.tensors.items()}

    @property
    def main_format(self) -> str:
        """The number format that holds most bytes of the layers; tables of embeddings often have another."""
        sizes: dict[str, int] = {}
        for name, tensor in self.tensors.items():
            sizes.setdefault(tensor.format, 0)
            sizes[tensor.format] += tensor.nbytes * name.startswith("layers.")
        return max(sizes, key=sizes.__getitem__)

    @property
    def has_tokenizer(self) -> bool:
        """Whether text can be turned into ids: a tokenizer.json, or a vocabulary inside a GGUF."""
        if isinstance(self.source, GgufFile):
            return "tokenizer.ggml.tokens" in self.source.metadata
        return self.tokenizer_json is not None

    def vocabulary(self, *, in_place: bool = False) -> Vocabulary | None:
        """The vocabulary inside a GGUF, decoded anew at each call; None when there is none.

        in_place: its strings stay in the file and are of use only while the store is open.
        """
        return vocabulary_of(self.source, in_place=in_place) if isinstance(self.source, GgufFile) else None

    def close(self) -> None:
        """Unmap the files; tensors must not be read after this."""
        self.source.close()


def open_store(path: str | Path) -> Store:
    """Open the model at `path`: a .gguf (or any part of a split one), a .safetensors beside its
    config.json, a folder with both, or a folder with one GGUF model. WeightsError for anything else.
    """
    path = Path(path)
    located = locate(path)
    try:
        if located.config is None:
            return _open_gguf(path, located)
        return _open_safetensors(path, located, located.config)
    except ConfigError as error:
        raise WeightsError(f"cannot open {path}: {error}") from error


def _open_gguf(path: Path, located: Located) -> Store:
    source = read_gguf(located.weights)
    try:
        architecture = _architecture(source)
        name = source.metadata.get("general.name")
        name = name if isinstance(name, str) and name else located.weights.stem
        spec: ModelSpec | DrafterSpec
        facts = _facts(source)
        if architecture == DRAFTER_ARCHITECTURE:
            spec = drafter_from_metadata(source.metadata, name, _vocab_size(source), facts)
        else:
            spec = model_from_metadata(source.metadata, name, _vocab_size(source), facts)
        template = source.metadata.get("tokenizer.chat_template")
        check_vocabulary(source)
        return Store(
            path=path,
            kind="gguf",
            spec=spec,
            tensors=bind(spec, source.tensors, in_gguf, path),
            chat_template=template if isinstance(template, str) else None,
            tokenizer_json=None,
            source=source,
            sampling=from_metadata(source.metadata),
        )
    except BaseException:
        source.close()
        raise


def _architecture(source: GgufFile) -> str:
    """general.architecture, when it is one that gemstead runs."""
    path, metadata = source.paths[0], source.metadata
    architecture = metadata.get("general.architecture")
    if architecture == "clip":
        raise WeightsError(
            f"{path} is only the image and sound side of a model (mmproj); open the model's own GGUF"
        )
    if metadata.get("general.type") == "adapter":
        raise WeightsError(f"{path} is a LoRA adapter, not a model; open the model it was trained on")
    if architecture not in (MODEL_ARCHITECTURE, DRAFTER_ARCHITECTURE):
        raise WeightsError(
            f"{path} holds the architecture {brief(architecture)}; gemstead runs Gemma 4 only "
            f"({MODEL_ARCHITECTURE}, {DRAFTER_ARCHITECTURE})"
        )
    if not source.tensors:
        raise WeightsError(
            f"{path} holds no tensors, only a vocabulary and settings; open the GGUF with the weights"
        )
    return str(architecture)


def _vocab_size(source: GgufFile) -> int:
    embedding = source.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        shape = None if embedding is None else embedding.shape
        raise WeightsError(f"{source.paths[0]}: token_embd.weight must have two axes; it has shape {shape}")
    return embedding.shape[0]


def _facts(source: GgufFile) -> Tensors:
    """What the spec is read from besides the keys: tensor shapes and the divisors of p-RoPE."""
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    freqs = source.tensors.get("rope_freqs.weight")
    if freqs is None:
        return Tensors(shapes)
    if len(freqs.shape) != 1 or freqs.shape[0] > _MAX_PAIRS:
        raise WeightsError(
            f"{source.paths[0]}: rope_freqs.weight has the shape {list(freqs.shape)}; "
            f"one axis of at most {_MAX_PAIRS} is needed"
        )
    return Tensors(shapes, Tensor(freqs.name, freqs.shape, [freqs]).float32().tolist())


def _open_safetensors(path: Path, located: Located, config_path: Path) -> Store:
    config = read_object(config_path)
    _refuse_other_models(config, config_path)
    folder = config_path.parent
    name = folder.resolve().name
    generation_path = folder / "generation_config.json"
    generation = read_object(generation_path) if generation_path.exists() else None
    spec: ModelSpec | DrafterSpec
    if is_drafter_config(config):
        spec = drafter_from_config(config, name)
    else:
        spec = model_from_config(config, name, generation)
    tokenizer = folder / "tokenizer.json"
    template = _template_of(folder)
    source = read_sharded(located.weights) if located.index else read_safetensors(located.weights)
    try:
        return Store(
            path=path,
            kind="safetensors",
            spec=spec,
            tensors=bind(spec, source.tensors, in_safetensors, path),
            chat_template=template,
            tokenizer_json=tokenizer if tokenizer.exists() else None,
            source=source,
            sampling=from_generation_config(generation or {}),
        )
    except BaseException:
        source.close()
        raise


def _refuse_other_models(config: Mapping[str, Any], path: Path) -> None:
    """WeightsError for a config.json of another model or of a quantized safetensors repository."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type.startswith("gemma4"):
        seen = f"the model type {brief(model_type)}" if isinstance(model_type, str) else "no model type"
        raise WeightsError(f"{path} describes {seen}; gemstead runs Gemma 4 only (model_type gemma4...)")
    text = config.get("text_config")
    for holder in (config, text if isinstance(text, dict) else {}):
        quantization = holder.get("quantization_config")
        if quantization:
            method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
            raise WeightsError(
                f"{path} describes weights quantized by {brief(method)}, which gemstead does not read; "
                "use the unquantized safetensors or a GGUF"
            )


def _template_of(folder: Path) -> str | None:
    """The chat template beside the weights: chat_template.jinja, else inside tokenizer_config.json."""
    jinja, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    try:
        if jinja.is_file():
            size = jinja.stat().st_size
            if size > _MAX_TEMPLATE_BYTES:
                raise WeightsError(f"{jinja} has {size} bytes; at most {_MAX_TEMPLATE_BYTES} are believable")
            return jinja.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read {jinja}: {error}") from error
    template = read_object(settings).get("chat_template") if settings.exists() else None
    if isinstance(template, list):  # several named templates
        named = {x.get("name"): x.get("template") for x in template if isinstance(x, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
