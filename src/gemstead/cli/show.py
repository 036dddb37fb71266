"""`gemstead show`: what a model file holds.

Reads the header of the weights, and a few rows where a format is computed as another, so it is quick for any
size: the model's shape, the formats and sizes of its tensors by group, and which chat template it carries.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import click

from gemstead.backend.native.backend import kv_bytes_per_token, unsuited
from gemstead.backend.native.packing import computed_as, repacking_error
from gemstead.backend.native.weights import matrices_of
from gemstead.cli.names import DEFAULT_MODEL, check_model, path_of
from gemstead.cli.screen import plain
from gemstead.spec.model import DrafterSpec, LayerSpec, ModelSpec
from gemstead.text.template import recognise
from gemstead.types import KV_FORMATS
from gemstead.weights.store import Store, open_store
from gemstead.weights.tensor import Tensor

# The first pattern found in a tensor's canonical name decides its group.
_GROUPS = (
    ("norms and scalars", r"norm|layer_scalar|router\.(scale|per_expert_scale)$"),
    ("per-layer embeddings", r"embed_tokens_per_layer|per_layer"),
    ("token embeddings", r"embed_tokens|masked_embedding"),
    ("attention", r"self_attn"),
    ("experts", r"experts|router"),
    ("mlp", r"mlp"),
    ("other", r""),
)


@dataclass
class Group:
    """The tensors of one purpose: how many, in which formats, how large."""

    name: str
    tensors: int
    formats: dict[str, int]
    values: int
    bytes: int


@click.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every tensor included.")
def show(model: str, as_json: bool) -> None:
    """Describe a model: shape, number formats, sizes, chat template.

    MODEL is a name such as e2b, a GGUF file, a Hugging Face folder, or pebble.
    """
    name = check_model(model)
    store = open_store(path_of(name))
    try:
        click.echo(json.dumps(describe(store), ensure_ascii=False) if as_json else plain_lines(store))
    finally:
        store.close()


def plain_lines(store: Store) -> str:
    """The description for people; names from the file cannot steer the terminal."""
    facts = [*shape(store.spec), ("chat template", template_line(store))]
    if text := repacked_line(store):
        facts.append(("computed as q8_0", text))
    lines = [
        f"{store.spec.name}  ({store.kind}, {size(store.total_bytes)})",
        f"{store.path}",
        "",
        *rows(facts),
        "",
        *table(groups(store.tensors.items())),
    ]
    return "\n".join("\n".join(plain(part) for part in line.split("\n")) for line in lines)


def repacked(store: Store) -> dict[str, float | None]:
    """The formats the native engine has no kernel for, and how far off q8_0 is in a matrix of each."""
    found: dict[str, float | None] = {}
    for name in matrices_of(store.spec):
        tensor = store.tensors.get(name)
        if tensor is not None and computed_as(tensor.format) != tensor.format and tensor.format not in found:
            found[tensor.format] = repacking_error(tensor)
    return found


def repacked_line(store: Store) -> str:
    """'q5_k (0.42% off)'; empty where every format has a kernel."""
    return ", ".join(
        f"{name} ({'unknown how far' if error is None else f'{100 * error:.2f}%'} off)"
        for name, error in repacked(store).items()
    )


def rows(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """'  name  value' with the values below each other."""
    return [f"  {name:22}{value}" for name, value in pairs]


def shape(spec: ModelSpec | DrafterSpec) -> list[tuple[str, str]]:
    """The facts of a spec that a person asks for first."""
    first = spec.layers[0]
    facts = [
        ("kind", "drafter" if isinstance(spec, DrafterSpec) else "text decoder"),
        ("layers", layers_line(spec.layers)),
        ("hidden size", f"{spec.hidden_size:,}"),
        ("vocabulary", f"{spec.vocab_size:,} tokens"),
        ("context", f"{spec.max_position_embeddings:,} tokens"),
    ]
    facts += [(f"{kind} attention", attention_line(spec.layers, kind)) for kind in ("sliding", "full")]
    widths = sorted({layer.intermediate_size for layer in spec.layers})
    facts.append(("mlp width", " and ".join(f"{width:,}" for width in widths)))
    if first.moe is not None:
        moe = first.moe
        facts.append(
            ("experts", f"{moe.top_k_experts} of {moe.num_experts}, width {moe.intermediate_size:,}")
        )
    if isinstance(spec, ModelSpec):
        if spec.hidden_size_per_layer_input:
            facts.append(
                ("per-layer embedding", f"{spec.hidden_size_per_layer_input} values a layer and token")
            )
        facts.append(("keys and values", kv_line(spec)))
        senses = [name for name, part in (("images", spec.vision), ("sound", spec.audio)) if part is not None]
        facts.append(("other senses", ", ".join(senses) or "none"))
    return facts


def layers_line(layers: tuple[LayerSpec, ...]) -> str:
    """'35: 28 sliding, 7 full; 20 share the K/V of earlier ones'."""
    kinds = Counter(layer.attention.kind for layer in layers)
    text = f"{len(layers)}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    sharing = sum(not layer.owns_kv for layer in layers)
    return text + (f"; {sharing} share the K/V of other layers" if sharing else "")


def attention_line(layers: tuple[LayerSpec, ...], kind: str) -> str:
    """The heads of the first layer of that kind."""
    found = [layer.attention for layer in layers if layer.attention.kind == kind]
    if not found:
        return "none"
    a = found[0]
    text = f"{a.num_heads} heads of {a.head_dim}, {a.num_kv_heads} for K/V"
    text += f", window {a.window:,}" if a.window else ""
    return text + (", values taken from keys" if a.v_from_k else "")


def kv_line(spec: ModelSpec) -> str:
    """What the native engine keeps, in each format it can: what grows with the context, and the windows."""
    parts = []
    for kv in KV_FORMATS:
        costs = list(zip(kv_bytes_per_token(spec, kv), spec.pools, strict=True))
        grows = size(sum(cost for cost, pool in costs if pool.window is None))
        windows = size(sum(cost * pool.window for cost, pool in costs if pool.window is not None))
        if unsuited(spec, kv) is None:
            parts.append(f"{kv}: {grows} a token, {windows} for windows")
    return "; ".join(parts) or "of no size the native engine keeps"


def template_line(store: Store) -> str:
    """Which generation of Gemma's chat template the file carries."""
    if store.chat_template is None:
        return "none in the file; gemstead uses its own"
    info = recognise(store.chat_template)
    if info.known:
        return f"{info.name} (generation {info.generation})"
    return f"warning: {info.name}; prompts follow Google's newest (generation {info.generation})"


def groups(tensors: Iterable[tuple[str, Tensor]]) -> list[Group]:
    """The tensors summed up by purpose, in the order of the table above."""
    found = {name: Group(name, 0, {}, 0, 0) for name, _ in _GROUPS}
    for name, tensor in tensors:
        group = found[group_of(name)]
        group.tensors += 1
        group.formats[tensor.format] = group.formats.get(tensor.format, 0) + tensor.nbytes
        group.values += count(tensor)
        group.bytes += tensor.nbytes
    return [group for group in found.values() if group.tensors]


def group_of(name: str) -> str:
    """The purpose of a tensor, from its canonical name."""
    return next(title for title, pattern in _GROUPS if re.search(pattern, name))


def count(tensor: Tensor) -> int:
    """How many values a tensor holds."""
    total = 1
    for length in tensor.shape:
        total *= length
    return total


def table(found: list[Group]) -> list[str]:
    """Groups as aligned lines with a total."""
    total = Group("total", 0, {}, 0, 0)
    for group in found:
        total.tensors += group.tensors
        total.values += group.values
        total.bytes += group.bytes
    lines = [f"  {'':22}{'tensors':>8}{'values':>10}{'size':>10}  formats"]
    for group in [*found, total]:
        formats = ", ".join(sorted(group.formats, key=lambda f: -group.formats[f]))
        amounts = f"{group.tensors:>8}{amount(group.values):>10}{size(group.bytes):>10}"
        lines.append(f"  {group.name:22}{amounts}  {formats}".rstrip())
    return lines


def amount(number: float) -> str:
    """12.3 M for 12,300,000."""
    for unit in ("", " K", " M", " B"):
        if number < 1000:
            return f"{number:.0f}" if unit == "" else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.1f} T"


def size(number: float) -> str:
    """7.9 MB for 7,900,000 bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def describe(store: Store) -> dict[str, Any]:
    """Everything `show` knows, for --json."""
    template = None if store.chat_template is None else asdict(recognise(store.chat_template))
    return {
        "name": store.spec.name,
        "path": str(store.path),
        "kind": store.kind,
        "drafter": isinstance(store.spec, DrafterSpec),
        "total_bytes": store.total_bytes,
        "spec": asdict(store.spec),
        "template": template,
        "repacked": repacked(store),
        "groups": [asdict(group) for group in groups(store.tensors.items())],
        "tensors": [
            {"name": name, "shape": list(tensor.shape), "format": tensor.format, "bytes": tensor.nbytes}
            for name, tensor in store.tensors.items()
        ],
    }
