"""Files in number formats, from hand to hand: llama.cpp reads ours, we read its own quantizer's.

Both compute the same file, ours in float32; llama.cpp also rounds what goes into a matrix to eight bits, so
its scores are close and not equal. Needs GEMSTEAD_LLAMA_VENV, as test_llama_cpp.py does.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.parity.test_llama_cpp import TOKENS, VENV, as_llama_cpp_shares, vocabulary
from tests.support.memory_store import MemoryStore
from tests.support.tolerances import LLAMA_CPP_ROUNDED_INPUTS

import gemstead
from gemstead.spec.model import TokenIds
from gemstead.spec.variants import VARIANTS
from gemstead.weights.mixture import MIXTURES
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.quantize import Conversion
from gemstead.weights.store import open_store

pytestmark = pytest.mark.skipif(
    not VENV, reason="GEMSTEAD_LLAMA_VENV names no environment with llama-cpp-python"
)

WIDTH = 256  # a whole block of the K formats

# Quantizes a file with llama.cpp's own quantizer; the number is its llama_ftype.
QUANTIZER = """
import ctypes, sys, llama_cpp
source, target, kind = sys.argv[1], sys.argv[2], int(sys.argv[3])
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = kind, 1
code = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))
sys.exit(int(code != 0))
"""

# The scores of every token of a prompt, as float32 in a file.
SCORER = """
import json, sys
import numpy as np
from llama_cpp import Llama
path, prompt, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
llama = Llama(model_path=path, n_ctx=256, n_batch=256, n_threads=1, n_threads_batch=1, logits_all=True,
              verbose=False)
llama.eval(prompt)
np.save(out, llama.scores[:len(prompt)])
"""


def in_llama(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(Path(VENV) / "bin/python"), "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=["tiny-e2b", "tiny-26b"])
def source(request, tmp_path_factory) -> Path:
    """A random model in float32, wide enough for every format."""
    spec = as_llama_cpp_shares(VARIANTS[request.param])
    layers = tuple(replace(layer, intermediate_size=WIDTH) for layer in spec.layers)
    rows = TOKENS if spec.hidden_size_per_layer_input else 0
    spec = replace(
        spec,
        hidden_size=WIDTH,
        layers=layers,
        vocab_size=TOKENS,
        vocab_size_per_layer_input=rows,
        tokens=TokenIds(),
    )
    arrays = {n: t.values for n, t in MemoryStore(spec, seed=3, scale=0.15).tensors.items()}
    for n, values in arrays.items():
        if n.endswith(("q_norm", "k_norm")):
            values *= len(values) ** -0.25
        if n.endswith("router.proj"):
            values *= 30
    path = tmp_path_factory.mktemp("llama") / "f32.gguf"
    write_model_gguf(path, spec, arrays, "f32", vocabulary=vocabulary())
    return path


def log_softmax(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float64) - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def both_agree(path: Path, tmp_path: Path) -> None:
    prompt = [2, *np.random.default_rng(5).integers(110, TOKENS, 40).tolist()]
    in_llama(SCORER, str(path), json.dumps(prompt), str(tmp_path / "theirs.npy"))
    theirs = log_softmax(np.load(tmp_path / "theirs.npy"))
    with gemstead.open(path, backend="reference") as model:
        ours = log_softmax(model.logits(prompt))
    divergence = (np.exp(ours) * (ours - theirs)).sum(-1)
    print(f"{path.name}: KL mean {divergence.mean():.2e}, largest {divergence.max():.2e}")
    assert divergence.mean() < LLAMA_CPP_ROUNDED_INPUTS


@pytest.mark.parametrize("name", MIXTURES)
def test_llama_cpp_reads_what_we_wrote(source, name, tmp_path):
    path = tmp_path / f"{name}.gguf"
    with open_store(source) as store:
        Conversion(store, path, name).run()
    both_agree(path, tmp_path)


@pytest.mark.parametrize("name", [name for name in MIXTURES if name != "f32"] + ["q2_k", "q3_k_m"])
def test_we_read_what_llama_cpp_wrote(source, name, tmp_path):
    path = tmp_path / f"{name}.gguf"
    kind = {"q2_k": 10, "q3_k_m": 12}.get(name) or MIXTURES[name].file_type
    in_llama(QUANTIZER, str(source), str(path), str(kind))
    both_agree(path, tmp_path)


def test_a_wrong_file_would_be_seen(source, tmp_path):
    """How far q4_0 is from its own source is more than the tolerance."""
    with open_store(source) as store:
        Conversion(store, tmp_path / "m.gguf", "q4_0").run()
    prompt = [2, *range(110, 150)]
    scores = []
    for path in (source, tmp_path / "m.gguf"):
        with gemstead.open(path, backend="reference") as model:
            scores.append(log_softmax(model.logits(prompt)))
    divergence = (np.exp(scores[0]) * (scores[0] - scores[1])).sum(-1)
    assert divergence.mean() > LLAMA_CPP_ROUNDED_INPUTS
