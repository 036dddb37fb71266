"""The pieces of a Gemma 4 decoder layer in PyTorch: norms, RoPE, attention, feed-forward, experts.

A layer's formulas stop short of attention and go on after it (`finish`), so that the training forward
(model.py) and the paged one (backend.py) share them and differ only in where keys come from.
Shape letters: B sequences, T rows, S keys, N query heads, K KV heads, H head_dim, D hidden, P PLE.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gemstead.spec.model import AttentionSpec, LayerSpec, MoeSpec

Rope = tuple[Tensor, Tensor]
# How a matrix meets rows: functional.linear, or adapters.py around it. It gets the rows, then the matrix.
Linear = Callable[[Tensor, Tensor], Tensor]


def empty(*shape: int) -> nn.Parameter:
    """A parameter without values yet, on torch's default device and dtype."""
    return nn.Parameter(torch.empty(*shape))


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype matrix products run in: autocast's where it is on, else x's."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class _Rms(torch.autograd.Function):
    """The norm with its gradient written out: a third of the passes over memory of the composed one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        dtype = compute_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()  # float32 whatever the model's dtype: the mean of squares would lose digits
            inverse = (torch.linalg.vecdot(wide, wide)[..., None] / x.shape[-1] + eps).rsqrt()
            y = wide * inverse
            y = y if weight is None else y.mul_(weight)
        ctx.save_for_backward(x, weight, inverse)
        return y.to(dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, inverse = ctx.saved_tensors
        g, wide, g_weight = g.float(), x.float(), None
        with torch.autocast(x.device.type, enabled=False):
            product = g * wide
            if weight is None:
                along, g = product.sum(-1, keepdim=True), g.clone()
            else:
                along, g = (product @ weight.float())[..., None], g * weight
                g_weight = (inverse.flatten() @ product.flatten(0, -2)).to(weight.dtype)
            along *= inverse.square() / -x.shape[-1]
            return g.addcmul_(wide, along).mul_(inverse).to(x.dtype), g_weight, None


def rms(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32, result in the compute dtype."""
    if torch.is_grad_enabled():
        y: Tensor = _Rms.apply(x, weight, eps)
        return y
    # A single row costs mostly its calls into torch: this is one call where the gradient's path makes ten.
    scale = None if weight is None else weight.float()
    return functional.rms_norm(x.float(), (x.shape[-1],), scale, eps).to(compute_dtype(x))


def gelu(x: Tensor) -> Tensor:
    """The tanh approximation of GELU."""
    return functional.gelu(x, approximate="tanh")


def softcap(logits: Tensor, cap: float | None) -> Tensor:
    """cap * tanh(logits / cap): bounded logits; None leaves them."""
    return logits if cap is None else cap * torch.tanh(logits / cap)


def rope_table(a: AttentionSpec, positions: Tensor, dtype: torch.dtype) -> Rope:
    """cos and sin [..., 1, head_dim / 2] of a layer's angles at `positions` [...].

    Exponents and frequencies are rounded to float32 step by step, as when the checkpoints were
    trained; the angle is float32, cos and sin take the model's dtype, as in transformers.
    """
    exponent = torch.arange(0, 2 * a.rope_pairs, 2, dtype=torch.float32) / a.head_dim
    turning = (a.rope_theta ** exponent.double()).float().reciprocal() / a.rope_factor
    frequency = functional.pad(turning, (0, a.head_dim // 2 - a.rope_pairs)).to(positions.device)
    angle = positions[..., None, None].float() * frequency
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Rotate the pairs (i, i + H/2) of x [..., heads, H]."""
    cos, sin = rope
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).to(x.dtype)


class Attention(nn.Module):
    """The projections and norms of one layer's attention; a sharing layer has no k_proj and v_proj."""

    def __init__(self, layer: LayerSpec, hidden_size: int, eps: float) -> None:
        super().__init__()
        a = layer.attention
        self.spec, self.eps = a, eps
        self.q_proj = empty(a.num_heads * a.head_dim, hidden_size)
        self.o_proj = empty(hidden_size, a.num_heads * a.head_dim)
        self.q_norm = empty(a.head_dim)
        if layer.owns_kv:
            self.k_proj = empty(a.num_kv_heads * a.head_dim, hidden_size)
            self.k_norm = empty(a.head_dim)
            if not a.v_from_k:
                self.v_proj = empty(a.num_kv_heads * a.head_dim, hidden_size)

    def queries(self, h: Tensor, rope: Rope, linear: Linear = functional.linear) -> Tensor:
        """Rotated queries [..., N, H] of h [..., D]."""
        q = linear(h, self.q_proj).unflatten(-1, (self.spec.num_heads, self.spec.head_dim))
        return rotate(rms(q, self.q_norm, self.eps), rope)

    def keys_values(self, h: Tensor, rope: Rope, linear: Linear = functional.linear) -> tuple[Tensor, Tensor]:
        """Rotated keys and normed values [..., K, H]; with v_from_k the value is the raw key projection."""
        heads = (self.spec.num_kv_heads, self.spec.head_dim)
        raw = linear(h, self.k_proj).unflatten(-1, heads)
        v = raw if self.spec.v_from_k else linear(h, self.v_proj).unflatten(-1, heads)
        return rotate(rms(raw, self.k_norm, self.eps), rope), rms(v, None, self.eps)


class Mlp(nn.Module):
    """The gated feed-forward: down(gelu(gate(x)) * up(x))."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = empty(intermediate_size, hidden_size)
        self.up_proj = empty(intermediate_size, hidden_size)
        self.down_proj = empty(hidden_size, intermediate_size)

    def forward(self, x: Tensor, linear: Linear = functional.linear) -> Tensor:
        return linear(gelu(linear(x, self.gate_proj)) * linear(x, self.up_proj), self.down_proj)


class Router(nn.Module):
    """Chooses top_k experts per row from the residual stream itself, not from its normed copy."""

    def __init__(self, hidden_size: int, moe: MoeSpec, eps: float) -> None:
        super().__init__()
        self.top_k, self.eps = moe.top_k_experts, eps
        self.proj = empty(moe.num_experts, hidden_size)
        self.scale = empty(hidden_size)
        self.per_expert_scale = empty(moe.num_experts)

    def forward(self, x_TD: Tensor, linear: Linear = functional.linear) -> tuple[Tensor, Tensor]:
        """Weights and indices [T, top_k]: softmax over all experts, then top-k, renormalised, scaled."""
        r = rms(x_TD, None, self.eps) * self.scale * x_TD.shape[-1] ** -0.5
        p = linear(r, self.proj).float().softmax(dim=-1)  # float32: near ties decide which expert runs
        weight, index = p.topk(self.top_k, dim=-1)
        weight = weight / weight.sum(dim=-1, keepdim=True)
        return weight.to(x_TD.dtype) * self.per_expert_scale[index], index


class Experts(nn.Module):
    """All experts of one layer as two 3-D parameters; rows 0..F-1 of gate_up are the gate."""

    def __init__(self, hidden_size: int, moe: MoeSpec) -> None:
        super().__init__()
        self.gate_up_proj = empty(moe.num_experts, 2 * moe.intermediate_size, hidden_size)
        self.down_proj = empty(moe.num_experts, hidden_size, moe.intermediate_size)

    def forward(self, x_TD: Tensor, weight: Tensor, index: Tensor) -> Tensor:
        """The weighted sum of each row's chosen experts, one expert after another over its rows."""
        out = torch.zeros_like(x_TD)
        for expert in index.unique().tolist():
            row, choice = (index == expert).nonzero(as_tuple=True)
            gate, up = functional.linear(x_TD[row], self.gate_up_proj[expert]).chunk(2, dim=-1)
            y = functional.linear(gelu(gate) * up, self.down_proj[expert])
            out = out.index_add(0, row, y * weight[row, choice, None])
        return out


class Layer(nn.Module):
    """One decoder layer, in two halves around attention."""

    def __init__(self, layer: LayerSpec, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.spec, self.eps = layer, eps
        d, p = hidden_size, layer.per_layer_width
        self.input_layernorm, self.post_attention_layernorm = empty(d), empty(d)
        self.pre_feedforward_layernorm, self.post_feedforward_layernorm = empty(d), empty(d)
        self.layer_scalar = nn.Parameter(torch.empty(1), requires_grad=False)
        self.self_attn = Attention(layer, d, eps)
        self.mlp = Mlp(d, layer.intermediate_size)
        if layer.moe is not None:
            self.router, self.experts = Router(d, layer.moe, eps), Experts(d, layer.moe)
            self.post_feedforward_layernorm_1, self.post_feedforward_layernorm_2 = empty(d), empty(d)
            self.pre_feedforward_layernorm_2 = empty(d)
        if p:
            self.per_layer_input_gate, self.per_layer_projection = empty(p, d), empty(d, p)
            self.post_per_layer_input_norm = empty(d)

    def normed(self, x: Tensor) -> Tensor:
        """What the attention projections read."""
        return rms(x, self.input_layernorm, self.eps)

    def finish(
        self, x: Tensor, attended: Tensor, ple: Tensor | None, linear: Linear = functional.linear
    ) -> Tensor:
        """The residual stream after this layer, from what attention gathered [..., N, H]."""
        o = linear(attended.flatten(-2), self.self_attn.o_proj)
        x = x + rms(o, self.post_attention_layernorm, self.eps)
        y = self.mlp(rms(x, self.pre_feedforward_layernorm, self.eps), linear)
        if self.spec.moe is not None:
            y = rms(y, self.post_feedforward_layernorm_1, self.eps) + self._routed(x, linear)
        x = x + rms(y, self.post_feedforward_layernorm, self.eps)
        if ple is not None:
            z = gelu(linear(x, self.per_layer_input_gate)) * ple
            z = linear(z, self.per_layer_projection)
            x = x + rms(z, self.post_per_layer_input_norm, self.eps)
        return x * self.layer_scalar

    def _routed(self, x: Tensor, linear: Linear) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y = self.experts(rms(rows, self.pre_feedforward_layernorm_2, self.eps), *self.router(rows, linear))
        return rms(y, self.post_feedforward_layernorm_2, self.eps).view_as(x)
