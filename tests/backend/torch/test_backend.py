"""The torch backend: what the reference gives, whoever shares the batch and however a prompt is cut."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch backend is an optional extra: gemstead[torch]")

from tests.support.memory_store import MemoryStore  # noqa: E402
from tests.support.paging import Runner  # noqa: E402
from tests.support.tolerances import TORCH_GRADIENTS, TORCH_LOGITS  # noqa: E402

from gemstead.backend.base import Backend, Logits, Media  # noqa: E402
from gemstead.backend.reference import ReferenceBackend  # noqa: E402
from gemstead.backend.torch import TextModel, TorchBackend  # noqa: E402
from gemstead.errors import BackendError, CapacityError, ConfigError, InputError  # noqa: E402
from gemstead.spec.variants import DRAFTERS, VARIANTS  # noqa: E402

TINY = ("tiny-e2b", "tiny-e4b", "tiny-12b", "tiny-26b", "tiny-31b")


class Both:
    """A runner on each backend, fed the same; every answer of torch is compared."""

    def __init__(self, name, page_tokens, seed):
        stores = MemoryStore(VARIANTS[name], seed, 0.12), MemoryStore(DRAFTERS[name], seed + 1, 0.12)
        made = TorchBackend(*stores, device="cpu", threads=1), ReferenceBackend(*stores)
        self.runners = [Runner(backend, page_tokens=page_tokens, seed=seed) for backend in made]

    def step(self, *args, **more):
        return self._same([runner.step(*args, **more) for runner in self.runners])

    def draft(self, *args):
        return self._same([runner.draft(*args) for runner in self.runners])

    def rollback(self, *args):
        for runner in self.runners:
            runner.rollback(*args)

    def _same(self, answers):
        ours, theirs = answers
        assert ours.keys() == theirs.keys()
        for s, wanted in theirs.items():
            np.testing.assert_allclose(ours[s].values_RV, wanted.values_RV, rtol=0, atol=TORCH_LOGITS)
            assert (ours[s].hidden_RD is None) == (wanted.hidden_RD is None)
            if wanted.hidden_RD is not None:
                np.testing.assert_allclose(ours[s].hidden_RD, wanted.hidden_RD, rtol=0, atol=TORCH_LOGITS)
        return theirs


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", TINY)
def test_random_batches_as_the_reference(name, seed):
    rng = np.random.default_rng(seed)
    both = Both(name, page_tokens=int(rng.choice([1, 4, 16])), seed=seed)
    for _ in range(8):
        live = rng.choice(5, int(rng.integers(1, 5)), replace=False)
        chunks = {int(s): rng.integers(0, 256, int(rng.choice([1, 1, 3, 17]))) for s in live}
        out = both.step(chunks, str(rng.choice(["all", "last", "none"])), want_hidden=True)
        some = {s: o for s, o in out.items() if len(o.values_RV)}
        if some:
            hidden = {s: o.hidden_RD[-1] for s, o in some.items()}
            out = both.draft(dict.fromkeys(some, 7), hidden)
            both.draft(dict.fromkeys(some, 9), {s: o.hidden_RD[0] for s, o in out.items()})
    # Three drafted rows refused: nothing of them stays.
    length = both.runners[0].cached[int(live[0])]
    both.step({int(live[0]): rng.integers(0, 256, 3)})
    both.rollback(int(live[0]), length)
    both.step({int(live[0]): rng.integers(0, 256, 2)})


@pytest.mark.parametrize("name", TINY)
def test_chunked_prefill_is_whole_prefill(name):
    backend = TorchBackend(MemoryStore(VARIANTS[name]), device="cpu", threads=1)
    ids = np.random.default_rng(1).integers(0, 256, 60)
    whole = Runner(backend).step({0: ids})[0].values_RV
    runner = Runner(backend, page_tokens=8)
    parts = [runner.step({0: chunk})[0].values_RV for chunk in np.split(ids, [1, 9, 30, 59])]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=TORCH_LOGITS)


@pytest.mark.parametrize("name", TINY)
def test_gradients_are_the_same_with_and_without_a_cache(name):
    backend = TorchBackend(MemoryStore(VARIANTS[name], scale=0.12), device="cpu", threads=1)
    ids = np.random.default_rng(2).integers(0, 256, 30)

    class Differentiable:
        """The backend, its answers kept with their history."""

        capabilities, new_cache = backend.capabilities, backend.new_cache
        answers: ClassVar[list] = []

        def forward(self, batch):
            self.answers.append(backend.forward_tensors(batch)[0])
            return Logits(self.answers[-1].detach().numpy())

    def gradients(logits):
        backend.module.zero_grad()
        torch.nn.functional.cross_entropy(logits[:-1], torch.from_numpy(ids[1:])).backward()
        return {n: p.grad.clone() for n, p in backend.module.named_parameters() if p.requires_grad}

    kept = Differentiable()
    runner = Runner(kept, page_tokens=4)
    for chunk in np.split(ids, [7, 20]):
        runner.step({0: chunk})
    cached = gradients(torch.cat(kept.answers))
    for name, g in gradients(backend.module(torch.from_numpy(ids)[None])[0]).items():
        worst = TORCH_GRADIENTS * float(g.abs().max()) + 1e-6
        torch.testing.assert_close(cached[name], g, rtol=0, atol=worst, msg=name)


def test_the_per_layer_table_stays_in_the_store():
    store = MemoryStore(VARIANTS["tiny-e2b"])
    backend = TorchBackend(store, device="cpu")
    assert "embed_tokens_per_layer" not in dict(backend.module.named_parameters())
    table = store.tensors["embed_tokens_per_layer"].nbytes
    assert backend.capabilities().weights_bytes == store.total_bytes - table
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(backend.module(ids), TextModel.from_store(store)(ids))


def test_costs_are_what_the_cache_holds():
    for dtype, width in (("float32", 4), ("bfloat16", 2)):
        backend = TorchBackend(MemoryStore(VARIANTS["tiny-e2b"]), device="cpu", dtype=dtype)
        costs = backend.capabilities().kv_bytes_per_token
        # K and V: 4 sliding owners of 1 head of 16, 2 full owners of 1 head of 32.
        assert costs == (2 * width * 4 * 16, 2 * width * 2 * 32)
        assert backend.new_cache((3, 5), 4).size_bytes == 3 * 4 * costs[0] + 5 * 4 * costs[1]


def test_bfloat16_generates_near_float32():
    store, ids = MemoryStore(VARIANTS["tiny-12b"]), np.arange(30)
    wide, narrow = (
        Runner(TorchBackend(store, device="cpu", dtype=dtype)).step({0: ids})[0].values_RV
        for dtype in ("float32", "bfloat16")
    )
    assert np.abs(wide - narrow).mean() < 0.05 * wide.std()


def test_refusals():
    store = MemoryStore(VARIANTS["tiny-e2b"])
    with pytest.raises(ConfigError, match="float32, bfloat16"):
        TorchBackend(store, dtype="float16")
    with pytest.raises(BackendError, match="device"):
        TorchBackend(store, device="abacus")
    with pytest.raises(BackendError, match="is a drafter"):
        TorchBackend(MemoryStore(DRAFTERS["tiny-e2b"]))
    with pytest.raises(BackendError, match="is a model"):
        TorchBackend(store, store)
    with pytest.raises(BackendError, match="cannot draft"):
        TorchBackend(store, MemoryStore(DRAFTERS["tiny-e4b"]))
    backend = TorchBackend(store, device="cpu")
    assert isinstance(backend, Backend)
    with pytest.raises(InputError, match="image"):
        backend.encode(Media("image", np.zeros((1, 1), np.float32)))
    with pytest.raises(InputError, match="0 to 255"):
        Runner(backend).step({0: [256]})
    runner = Runner(backend)
    runner.step({0: [5]})
    with pytest.raises(BackendError, match="without a drafter"):
        runner.draft({0: 5}, {0: np.zeros(64, np.float32)})
    with pytest.raises(CapacityError, match="K/V"):
        backend.new_cache((1 << 40, 1 << 40), 32)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        runner.step({0: [5]})
