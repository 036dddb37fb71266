"""What a GPU has room for: the torch backend's own sizes, and a bound that is no promise."""

from __future__ import annotations

import pytest

from gemstead.machine import on_gpu as module
from gemstead.machine.fit import Load
from gemstead.machine.gpus import Gpu
from gemstead.machine.on_gpu import on_gpu, what_is_missing
from gemstead.spec.variants import VARIANTS
from support.memory_store import MemoryStore

SMALL, LARGE = Gpu("small", 8_000_000_000, 7_000_000_000), Gpu("large", 80_000_000_000, 79_000_000_000, 1e12)


def test_the_gpu_with_most_room_is_asked_and_none_says_nothing():
    assert [one.gpu for one in on_gpu("e2b", (SMALL, LARGE), Load(2048), 100)] == ["large"]
    assert list(on_gpu("e2b", (), Load(2048), 100)) == []


@pytest.mark.parametrize("variant", ["tiny-e2b", "tiny-26b"])
def test_weights_and_pages_are_the_backends(variant):
    torch_backend = pytest.importorskip("gemstead.backend.torch.backend", reason="torch is not installed")
    backend = torch_backend.TorchBackend(MemoryStore(VARIANTS[variant]), device="cpu", dtype="bfloat16")
    can = backend.capabilities()
    held = can.weights_bytes + module.kv_needed(VARIANTS[variant], Load(64), can.kv_bytes_per_token)
    assert next(on_gpu(variant, (LARGE,), Load(64), 8)).memory_bytes == held
    backend.close()


def test_what_fits_and_the_bound():
    """31b in bfloat16 is 61 GB: 1,000 GB/s read that 16 times a second, and no program writes faster."""
    found = next(on_gpu("31b", (LARGE,), Load(2048), 100))
    assert found.fits
    assert 14 < found.most_tok_s < 1e12 / 61e9
    assert next(on_gpu("31b", (LARGE,), Load(2048), 20_000)).most_tok_s < found.most_tok_s
    small = next(on_gpu("12b", (SMALL,), Load(2048), 100))
    assert not small.fits
    assert small.most_tok_s is None
    more = next(on_gpu("31b", (LARGE,), Load(2048, users=8), 100))
    assert more.memory_bytes > found.memory_bytes


@pytest.mark.parametrize(
    ("found", "said"), [("2.13.0", None), ("2.13.0+cu130", None), ("2.13.0+cpu", "uses no GPU")]
)
def test_a_torch_without_cuda_is_said(monkeypatch, found, said):
    monkeypatch.setattr(module, "version", lambda _: found)
    missing = what_is_missing()
    assert missing is None if said is None else said in missing


def test_no_torch_is_said(monkeypatch):
    def nowhere(_):
        raise module.PackageNotFoundError

    monkeypatch.setattr(module, "version", nowhere)
    assert what_is_missing() == "pip install 'gemstead[torch]'"
