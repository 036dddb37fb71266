"""Random quantized blocks for tests, with scales that are finite and often extreme."""

from __future__ import annotations

import numpy as np

from gemstead.weights.formats import TABLE

QUANTIZED = [name for name, row in TABLE.items() if row.quantized]
SCALES = {  # byte positions of the float16 fields
    "q8_0": (0,),
    "q4_0": (0,),
    "q5_0": (0,),
    "iq4_nl": (0,),
    "iq4_xs": (0,),
    "q4_1": (0, 2),
    "q5_1": (0, 2),
    "q4_k": (0, 2),
    "q5_k": (0, 2),
    "q2_k": (80, 82),
    "q3_k": (108,),
    "q6_k": (208,),
}
EXTREME = np.array([0.0, -0.0, 6e-8, -6e-8, 6.1e-5, 1.0, -1.0, 65504.0, -65504.0], dtype="<f2")


def random_blocks(name: str, count: int, seed: int) -> np.ndarray:
    """Blocks of random bits whose scale fields are finite and often extreme."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, TABLE[name].block_bytes), dtype=np.uint8)
    for at in SCALES[name]:
        scale = np.where(rng.random(count) < 0.5, rng.choice(EXTREME, count), rng.normal(0, 0.1, count))
        blocks[:, at : at + 2] = scale.astype("<f2").view(np.uint8).reshape(count, 2)
    return blocks
