"""An adapter at run time gives what it gives merged into the weights, on every backend; and PEFT's logits."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from tests.backend.native.test_backend import SPECS as LARGER
from tests.support.adapters import merge, save_adapter
from tests.support.memory_store import MemoryStore
from tests.support.paging import Runner
from tests.support.tolerances import NATIVE_MERGED, REFERENCE_LOGITS, TORCH_LOGITS

from gemstead.backend import open_backend
from gemstead.backend.native import is_built
from gemstead.spec.variants import VARIANTS
from gemstead.weights.adapter import open_adapter
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store

# Per-layer embeddings and shared K/V; V the raw K; experts: small, and wide enough for whole vectors.
MODELS = ["tiny-e2b", "tiny-12b", "tiny-26b", "e-type", "k-is-v", "moe"]
BACKENDS = {"reference": REFERENCE_LOGITS, "torch": TORCH_LOGITS, "native": NATIVE_MERGED}
# Where two experts are nearly tied, a last bit picks the other one, and later rows see that row.
TIED = {"tiny-26b"}


@pytest.fixture(scope="module", params=MODELS)
def made(request, tmp_path_factory):
    """A model as it is and merged with each of two adapters, as files."""
    spec = LARGER.get(request.param) or VARIANTS[request.param]
    home = tmp_path_factory.mktemp("adapters")
    arrays = {n: t.values for n, t in MemoryStore(spec, seed=2).tensors.items()}
    folders = {
        "one": save_adapter(home / "one", spec, seed=1),
        "two": save_adapter(home / "two", spec, seed=2, r=9, lora_alpha=7.5, use_rslora=True),
    }
    files = {"plain": arrays, **{name: merge(arrays, folder, spec) for name, folder in folders.items()}}
    for name, tensors in files.items():
        write_model_gguf(home / f"{name}.gguf", spec, tensors, "f32")
    return request.param, spec, home, folders


@pytest.fixture(params=BACKENDS)
def kind(request):
    if request.param == "native" and not is_built():
        pytest.skip("the native engine is not built")
    if request.param == "torch":
        pytest.importorskip("torch")
    return request.param


def opened(stack, kind, path, folders=None, **options):
    """A Runner over a backend, all closed with the stack."""
    store = stack.enter_context(open_store(path))
    with ExitStack() as files:
        adapters = {n: files.enter_context(open_adapter(f, store.spec)) for n, f in (folders or {}).items()}
        backend = open_backend(kind, store, adapters=adapters, **options)
    stack.callback(backend.close)
    return Runner(backend, page_tokens=8)


def prompt(spec, length=40, seed=3):
    return np.random.default_rng(seed).integers(0, min(250, spec.vocab_size), length)


def test_at_run_time_as_merged(made, kind):
    name, spec, home, folders = made
    ids = prompt(spec)
    with ExitStack() as stack:
        runner = opened(stack, kind, home / "plain.gguf", folders)
        assert list(runner.backend.capabilities().adapters) == ["one", "two"]
        wanted, runner.adapters = {}, {1: 1, 2: 2}
        for s, file in enumerate(("plain", "one", "two")):
            wanted[s] = opened(stack, kind, home / f"{file}.gguf").step({0: ids})[0].values_RV
        got = runner.step(dict.fromkeys((1, 0, 2), ids))  # one batch, three ways
        for s in wanted:
            near = np.abs(got[s].values_RV - wanted[s]).max(axis=1) <= BACKENDS[kind]
            assert near.mean() >= (0.5 if name in TIED else 1.0), f"{s}: {near.mean()}"
            assert s == 0 or np.abs(wanted[s] - wanted[0]).max() > 10 * NATIVE_MERGED
        assert np.abs(wanted[1] - wanted[2]).max() > 10 * NATIVE_MERGED


def test_batch_mates_and_chunks_change_no_bit(made, kind):
    if kind == "torch":
        pytest.skip("torch rounds a row by the number of rows beside it")
    _, spec, home, folders = made
    ids = {s: prompt(spec, n, s) for s, n in enumerate((33, 9, 21, 17))}
    adapters = {1: 1, 2: 2, 3: 1}
    with ExitStack() as stack:
        bare = opened(stack, kind, home / "plain.gguf").step({0: ids[0]})[0].values_RV
        threads = {"threads": 3} if kind == "native" else {}
        runner = opened(stack, kind, home / "plain.gguf", folders, **threads)
        runner.adapters, got = adapters, {s: [] for s in ids}
        for start in range(0, 33, 5):
            now = {s: i[start : start + 5] for s, i in ids.items() if start < len(i)}
            for s, out in runner.step(now).items():
                got[s].append(out.values_RV)
        for s in ids:
            alone = opened(stack, kind, home / "plain.gguf", folders, **({"threads": 1} if threads else {}))
            alone.adapters = {0: adapters.get(s, 0)}
            wanted = alone.step({0: ids[s]})[0].values_RV
            assert np.array_equal(np.concatenate(got[s]), wanted), f"sequence {s}"
            assert s or np.array_equal(wanted, bare), "a backend that holds adapters computes something else"


def test_rows_nobody_reads_have_their_adapter_too(made, kind):
    """Rows stop at the last layer that owns K/V; what they wrote there is their adapter's."""
    _, spec, home, folders = made
    ids = prompt(spec)
    with ExitStack() as stack:
        runner = opened(stack, kind, home / "plain.gguf", folders)
        runner.adapters = dict.fromkeys(range(3), 2)
        wanted = runner.step({0: ids})[0].values_RV
        runner.step({1: ids[:30], 2: ids[:12]}, "none")
        got = runner.step({2: ids[12:], 1: ids[30:]}, "last")
        tolerance = TORCH_LOGITS if kind == "torch" else 0
        for s in (1, 2):
            np.testing.assert_allclose(got[s].values_RV[0], wanted[-1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("fmt", ["f16", "bf16"])
def test_half_precision_adapters(tmp_path, kind, fmt):
    spec = VARIANTS["tiny-e2b"]
    arrays = {n: t.values for n, t in MemoryStore(spec, seed=2).tensors.items()}
    folder = save_adapter(tmp_path / "a", spec, kind=fmt, r=16)
    write_model_gguf(tmp_path / "plain.gguf", spec, arrays, "f32")
    write_model_gguf(tmp_path / "merged.gguf", spec, merge(arrays, folder, spec), "f32")
    with ExitStack() as stack:
        runner = opened(stack, kind, tmp_path / "plain.gguf", {"a": folder})
        runner.adapters = {0: 1}
        got = runner.step({0: prompt(spec)})[0].values_RV
        wanted = opened(stack, kind, tmp_path / "merged.gguf").step({0: prompt(spec)})[0].values_RV
        np.testing.assert_allclose(got, wanted, rtol=0, atol=BACKENDS[kind])


def test_quantized_weights_keep_the_adapter_exact(tmp_path):
    """The term is added in float: on q4_0 weights native stays as near the reference as without."""
    if not is_built():
        pytest.skip("the native engine is not built")
    spec = LARGER["e-type"]
    write_model_gguf(
        tmp_path / "m.gguf", spec, {n: t.values for n, t in MemoryStore(spec).tensors.items()}, "q4_0"
    )
    folder, error = save_adapter(tmp_path / "a", spec), {}
    for number in (0, 1):
        with ExitStack() as stack:
            rows = []
            for kind in ("reference", "native"):
                runner = opened(stack, kind, tmp_path / "m.gguf", {"a": folder})
                runner.adapters = {0: number}
                rows.append(runner.step({0: prompt(spec)})[0].values_RV)
            error[number] = np.abs(rows[0] - rows[1]).mean() / rows[0].std()
    assert error[1] < 1.5 * error[0]


# Every linear of a text model and of a whole one (the encoders' part is passed over), other alphas and ranks.
@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True, "rank_pattern": {"q_proj": 7}},
        {"alpha_pattern": {"layers.1.mlp.up_proj": 30, "^model.layers.0.self_attn.q_proj": 2}},
    ],
)
@pytest.mark.parametrize("model", ["e2b", "26b", "whole"])
def test_logits_of_peft(tmp_path, model, settings):
    peft = pytest.importorskip("peft", reason="compares with the peft package, which is not installed")
    from tests.support.models import random_ids, saved_model, saved_whole_model, theirs, torch

    saved = saved_whole_model() if model == "whole" else saved_model(model)
    config = peft.LoraConfig(target_modules="all-linear", r=5, lora_alpha=9, **settings)
    adapted = peft.get_peft_model(saved.model, config)
    try:
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for name, value in adapted.named_parameters():
                if "lora_B" in name:
                    value.copy_(0.1 * torch.randn(value.shape, generator=generator))
        adapted.save_pretrained(tmp_path / "adapter")
        ids = random_ids("e2b" if model == "whole" else model, 40)
        wanted = theirs(type(saved)(saved.folder, adapted), ids)
    finally:
        adapted.unload()
    assert np.abs(wanted - theirs(saved, ids)).max() > 0.1
    for kind in ("reference", "torch"):
        with ExitStack() as stack:
            runner = opened(stack, kind, saved.folder, {"a": tmp_path / "adapter"})
            runner.adapters = {0: 1}
            got = runner.step({0: ids})[0].values_RV
            np.testing.assert_allclose(got, wanted, rtol=0, atol=BACKENDS[kind])
