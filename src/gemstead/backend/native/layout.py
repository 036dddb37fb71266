"""The structs that cross the C ABI, as ctypes; native/include/layout.h is generated from them.

`just gen` writes the header, a test compares it, and opening the library compares sizes. Nothing
here computes; backend.py fills the structs from a ModelSpec and a Store.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_double, c_float, c_int32, c_int64, c_uint32, c_void_p
from typing import Any

MAX_POOLS = 4


class Matrix(ctypes.Structure):
    """A matrix [copies * rows, columns] of a ggml type; packed: in the kernels' order (gs_pack).

    file: 1 + the descriptor of the file that holds it from `offset` on, to read single rows; 0: none, they
    are read at `data`.
    """

    _fields_ = (
        ("data", c_void_p),
        ("format", c_int32),
        ("packed", c_int32),
        ("copies", c_int32),
        ("file", c_int32),
        ("rows", c_int64),
        ("columns", c_int64),
        ("offset", c_int64),
    )


class Pool(ctypes.Structure):
    """KV-owning layers of equal shape. v_from_k: keys are made from values, which alone are kept."""

    _fields_ = (
        ("num_kv_heads", c_int32),
        ("head_dim", c_int32),
        ("num_layers", c_int32),
        ("v_from_k", c_int32),
    )


class Spec(ctypes.Structure):
    """A text decoder: sizes, and what is not inside a layer. per_layer_width 0: no PLE."""

    _fields_ = (
        ("hidden_size", c_int32),
        ("vocab_size", c_int32),
        ("num_layers", c_int32),
        ("num_pools", c_int32),
        ("last_kv_layer", c_int32),
        ("per_layer_width", c_int32),
        ("rms_norm_eps", c_float),
        ("final_logit_softcapping", c_float),
        ("pools", Pool * MAX_POOLS),
        ("embed_tokens", Matrix),
        ("head", Matrix),
        ("embed_tokens_per_layer", Matrix),
        ("per_layer_model_projection", Matrix),
        ("per_layer_projection_norm", POINTER(c_float)),
        ("norm", POINTER(c_float)),
    )


class Layer(ctypes.Structure):
    """One decoder layer. pool and slot say whose K/V it reads; owns_kv: it also writes them.

    window 0: all of the past. rope [rope_pairs]: radians per position of each turning pair.
    num_experts 0: no experts.
    """

    _fields_ = (
        ("pool", c_int32),
        ("slot", c_int32),
        ("owns_kv", c_int32),
        ("window", c_int32),
        ("num_heads", c_int32),
        ("num_kv_heads", c_int32),
        ("head_dim", c_int32),
        ("rope_pairs", c_int32),
        ("v_from_k", c_int32),
        ("intermediate_size", c_int32),
        ("num_experts", c_int32),
        ("top_k_experts", c_int32),
        ("expert_size", c_int32),
        ("layer_scalar", c_float),
        ("rope", POINTER(c_float)),
        *((name, Matrix) for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
        *((name, Matrix) for name in ("gate_proj", "up_proj", "down_proj")),
        *((name, Matrix) for name in ("router", "expert_gate_up", "expert_down")),
        *((name, Matrix) for name in ("per_layer_input_gate", "per_layer_projection")),
        *(
            (name, POINTER(c_float))
            for name in (
                "input_norm",
                "q_norm",
                "k_norm",
                "post_attention_norm",
                "pre_feedforward_norm",
                "post_feedforward_norm",
                "post_per_layer_input_norm",
                "router_scale",
                "per_expert_scale",
                "pre_feedforward_norm_2",
                "post_feedforward_norm_1",
                "post_feedforward_norm_2",
            )
        ),
    )


class Sequence(ctypes.Structure):
    """The rows of one sequence in a batch; backend/base.py SequenceRows says what the tables hold."""

    _fields_ = (
        ("start", c_int32),
        ("count", c_int32),
        ("position", c_int32),
        ("adapter", c_int32),
        ("page_tables", POINTER(c_int32) * MAX_POOLS),
    )


class Batch(ctypes.Structure):
    """One forward: backend/base.py Batch."""

    _fields_ = (
        ("num_tokens", c_int32),
        ("num_sequences", c_int32),
        ("num_logit_rows", c_int32),
        ("reserved", c_int32),
        ("token_ids", POINTER(c_int32)),
        ("sequences", POINTER(Sequence)),
        ("logit_rows", POINTER(c_int32)),
    )


class Drafter(ctypes.Structure):
    """Layers over a model's K/V. num_centroids 0: the head scores the whole vocabulary.

    Else token_ordering [vocab_size] lists it cluster by cluster. spec: pools as the model's.
    """

    _fields_ = (
        ("spec", Spec),
        ("num_centroids", c_int32),
        ("centroid_top_k", c_int32),
        ("pre_projection", Matrix),
        ("post_projection", Matrix),
        ("centroids", Matrix),
        ("token_ordering", POINTER(c_int32)),
    )


class Term(ctypes.Structure):
    """Of an adapter: scale * b (a x) on top of a linear (GS_...) of a layer; a [rank, in], b [out, rank]."""

    _fields_ = (
        ("layer", c_int32),
        ("linear", c_int32),
        ("scale", c_float),
        ("reserved", c_int32),
        ("a", Matrix),
        ("b", Matrix),
    )


class Strings(ctypes.Structure):
    """`count` strings in `bytes` bytes, each a length in eight bytes and its text, as a GGUF has them."""

    _fields_ = (("data", c_void_p), ("bytes", c_int64), ("count", c_int32), ("reserved", c_int32))


class Choice(ctypes.Structure):
    """How a token is taken from a row of logits [vocab_size]: backend/base.py Choice.

    allowed: bit i % 32 of word i / 32, NULL for all; top: how many of the best are told too.
    """

    _fields_ = (
        ("row", POINTER(c_float)),
        ("allowed", POINTER(c_uint32)),
        ("seen", POINTER(c_int32)),
        ("counts", POINTER(c_int32)),
        ("biased", POINTER(c_int32)),
        ("biases", POINTER(c_float)),
        ("forbidden", POINTER(c_int32)),
        ("u", c_double),
        ("top_p", c_double),
        ("min_p", c_double),
        ("vocab_size", c_int32),
        ("num_seen", c_int32),
        ("num_biased", c_int32),
        ("num_forbidden", c_int32),
        ("top_k", c_int32),
        ("top", c_int32),
        ("temperature", c_float),
        ("repetition", c_float),
        ("presence", c_float),
        ("frequency", c_float),
    )


STRUCTS: tuple[type[ctypes.Structure], ...] = (
    Matrix,
    Pool,
    Spec,
    Layer,
    Sequence,
    Batch,
    Drafter,
    Term,
    Strings,
    Choice,
)

_C_NAMES = {
    c_int32: "int32_t",
    c_uint32: "uint32_t",
    c_int64: "int64_t",
    c_float: "float",
    c_double: "double",
    c_void_p: "const void*",
}


def total_bytes() -> int:
    """sizeof every struct, summed: what gs_layout_bytes() must say too."""
    return sum(ctypes.sizeof(struct) for struct in STRUCTS)


def header() -> str:
    """layout.h."""
    lines = [
        "/* Generated by `just gen` from src/gemstead/backend/native/layout.py: do not edit. */",
        "#ifndef GEMSTEAD_LAYOUT_H",
        "#define GEMSTEAD_LAYOUT_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define GS_MAX_POOLS {MAX_POOLS}",
    ]
    for struct in STRUCTS:
        about = (struct.__doc__ or "").split("\n")[0]
        lines += ["", f"/* {about} */", "typedef struct {"]
        lines += [f"    {_declaration(name, kind)};" for name, kind in struct._fields_]  # type: ignore[misc]
        lines.append(f"}} {_name(struct)};")
    return "\n".join([*lines, "", "#endif", ""])


def _name(kind: Any) -> str:
    return _C_NAMES.get(kind) or f"gs_{kind.__name__.lower()}"


def _declaration(name: str, kind: Any) -> str:
    if issubclass(kind, ctypes.Array):
        return _declaration(f"{name}[GS_MAX_POOLS]", kind._type_)
    if hasattr(kind, "contents"):  # a pointer
        return f"const {_name(kind._type_)}* {name}"
    return f"{_name(kind)} {name}"
