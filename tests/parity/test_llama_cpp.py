"""The native engine continues as llama.cpp does, greedily, from the same GGUF of plain numbers.

On bfloat16 weights llama.cpp rounds the activations to bfloat16 too, and ours stay float32: there every
token it chose must be our choice too, or tied with it as far as that rounding goes.

llama.cpp lives in an environment of its own: GEMSTEAD_LLAMA_VENV names it (`bench/peer.py --setup` makes
one); without it these tests say so and pass over.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.memory_store import MemoryStore
from tests.support.tolerances import LLAMA_CPP_BF16_TIES
from tests.support.vocab import small_vocabulary

import gemstead
from gemstead.backend.native import is_built
from gemstead.spec.model import TokenIds
from gemstead.spec.variants import VARIANTS
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.vocabulary import Vocabulary

VENV = os.environ.get("GEMSTEAD_LLAMA_VENV")
TINY = [name for name in VARIANTS if name.startswith("tiny-")]
TOKENS, NEW = 640, 48
LENGTHS = (3, 21, 60)  # within a window, and well past it

pytestmark = [
    pytest.mark.skipif(not VENV, reason="GEMSTEAD_LLAMA_VENV names no environment with llama-cpp-python"),
    pytest.mark.skipif(not is_built(), reason="the native engine is not built"),
]

# Reads prompts as JSON, answers with their greedy continuations. The raw logits decide, not its sampler.
WORKER = """
import json, sys
from llama_cpp import Llama
path, prompts, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
llama = Llama(model_path=path, n_ctx=256, n_batch=256, n_threads=1, n_threads_batch=1, logits_all=True,
              verbose=False)
answers = []
for prompt in prompts:
    llama.reset()
    llama.eval(prompt)
    answer = []
    while len(answer) < count:
        answer.append(int(llama.scores[llama.n_tokens - 1].argmax()))
        llama.eval(answer[-1:])
    answers.append(answer)
print(json.dumps(answers))
"""


def vocabulary():
    """The small one of the text tests, filled up: llama.cpp wants a whole vocabulary."""
    tokens, types, merges = small_vocabulary()
    tokens += [f"more{i}" for i in range(TOKENS - len(tokens))]
    types += [1] * (TOKENS - len(types))
    return Vocabulary(tokens, types, merges, special={"bos": 2, "eos": 1, "padding": 0, "unknown": 3})


def as_llama_cpp_shares(spec):
    """The spec with sharers that read the last two owners, the full one last: llama.cpp knows no other."""
    owners = sum(x.owns_kv for x in spec.layers)
    if owners == spec.num_layers:
        return spec
    while spec.layers[owners - 1].attention.window is not None:
        owners -= 1
    sources = {"full": owners - 1, "sliding": owners - 2}
    layers = (replace(x, kv_source=sources[x.attention.kind]) for x in spec.layers[owners:])
    return replace(spec, layers=(*spec.layers[:owners], *layers))


def write(path: Path, name: str, kind: str) -> None:
    """A random model that has something to say: attention of moderate scores, tokens that do not repeat."""
    spec = as_llama_cpp_shares(VARIANTS[name])
    rows = TOKENS if spec.hidden_size_per_layer_input else 0
    spec = replace(spec, vocab_size=TOKENS, vocab_size_per_layer_input=rows, tokens=TokenIds())
    arrays = {n: t.values for n, t in MemoryStore(spec, seed=7, scale=0.3).tensors.items()}
    for n, values in arrays.items():
        if n.endswith(("q_norm", "k_norm")):
            values *= len(values) ** -0.25
        if n.endswith("router.proj"):
            values *= 30  # few picks are near ties
    arrays["embed_tokens"] *= 0.2  # tied: else a token mostly follows itself
    write_model_gguf(path, spec, arrays, kind, vocabulary=vocabulary())


def continued(path: Path, prompts: list[list[int]]) -> list[list[int]]:
    """What llama.cpp adds to each prompt."""
    worker = [str(Path(VENV) / "bin/python"), "-c", WORKER, str(path), json.dumps(prompts), str(NEW)]
    done = subprocess.run(worker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["f32", "bf16"])
@pytest.mark.parametrize("name", TINY)
def test_greedy_continuations_are_llama_cpps(name, kind, tmp_path):
    path = tmp_path / "m.gguf"
    write(path, name, kind)
    rng = np.random.default_rng(11)
    prompts = [[2, *rng.integers(110, TOKENS, n - 1).tolist()] for n in LENGTHS]
    theirs = continued(path, prompts)
    assert len({token for answer in theirs for token in answer}) > NEW / 2  # it does not just repeat itself
    same, behind = 0, []
    with gemstead.open(path, backend="native") as model:
        for prompt, answer in zip(prompts, theirs, strict=True):
            rows = model.logits([*prompt, *answer[:-1]])[len(prompt) - 1 :]
            same += int((rows.argmax(-1) == answer).sum())
            behind.append(rows.max(-1) - rows[np.arange(NEW), answer])
    print(f"{name} {kind}: {same} of {len(prompts) * NEW} tokens are llama.cpp's, worst {np.max(behind):.4f}")
    assert np.max(behind) <= (0 if kind == "f32" else LLAMA_CPP_BF16_TIES)
