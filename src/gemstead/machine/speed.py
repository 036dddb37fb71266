"""How fast a model should be on a machine: the kernels' rates, tensor by tensor, and what is lost besides.

The needed bytes and operations are costs.py's; a tensor takes the longer of reading and multiplying. What a
whole model loses beside its products (norms, threads waiting, the engine's own work) is two calibrated
constants. Above: plan.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gemstead.engine.options import EngineOptions
from gemstead.machine.costs import Costs, Step
from gemstead.machine.rates import TYPICAL, Rates, derived_rates
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import text_tensors
from gemstead.weights.formats import get

# Of what a second of probing shows of the kernels alone, a whole model reaches this much. Set from
# bench/plan_check.py on two Zen 3 cores (AVX2), nothing else running (2026-11-26). Reading a prompt: 0.95 was
# 8 % too slow on average (seven rows of e2b to 26b), before tiles stopped to wait for their answers' lines; a
# share above 1 says that the probe, one matrix for a moment, is slower than hundreds in a row. The guide's
# table has what comes of these; the machine itself changes by as much within minutes.
READ_SHARE = 0.93  # decoding
MULTIPLY_SHARE = 1.03  # reading a prompt
ATTENTION_SHARE = 0.5  # of the float32 rate, over cached keys and values
_CHUNK = EngineOptions().max_rows


def reached_rates(decode_bytes_s: float, prompt_operations_s: float) -> Rates:
    """The rates of a machine on which a whole model of q4_0 reached this much."""
    reading, multiplying = TYPICAL["q4_0"]
    return derived_rates(
        decode_bytes_s / (reading * READ_SHARE), prompt_operations_s / (multiplying * MULTIPLY_SHARE)
    )


class Speed:
    """A model in its formats (by tensor; absent: f32) and its K/V bytes, on a machine with these rates."""

    def __init__(
        self, spec: ModelSpec, formats: Mapping[str, str], kv_bytes_per_token: Sequence[int], rates: Rates
    ) -> None:
        sizes = {row.name: get(formats.get(row.name, "f32")).nbytes(row.shape) for row in text_tensors(spec)}
        self._costs = Costs(spec, sizes, kv_bytes_per_token)
        self._kernels = {name: rates.kernel(formats.get(name, "f32")) for name in sizes}
        self._rates = rates

    def step_s(self, step: Step) -> float:
        """Seconds of one forward."""
        total = 0.0
        for name, cost in self._costs.by_tensor(step).items():
            kernel = self._kernels[name]
            reading = cost.weight_bytes / (kernel.bytes_s * READ_SHARE)
            total += max(reading, cost.operations / (kernel.operations_s * MULTIPLY_SHARE))
        attention = self._costs.attention(step)
        multiplying = attention.operations / (self._rates.kernel("f32").operations_s * ATTENTION_SHARE)
        return total + max(attention.kv_bytes / (self._rates.bytes_s * READ_SHARE), multiplying)

    def prompt_s(self, tokens: int, sequences: int = 1) -> float:
        """Seconds to read prompts of so many tokens, one in each sequence, chunk by chunk."""
        total = 0.0
        for start in range(0, tokens, _CHUNK):
            rows = min(_CHUNK, tokens - start)
            total += self.step_s(Step(start, rows, 1, int(start + rows == tokens)))
        return total * sequences

    def decode_tok_s(self, depth: int, sequences: int = 1) -> float:
        """New tokens a second of each of these sequences after `depth` cached ones."""
        return 1.0 / self.step_s(Step(depth, 1, sequences))
