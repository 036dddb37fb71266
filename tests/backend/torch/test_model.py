"""Training forward: gradients, packing, early stop, checkpointing and both ways through the weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch backend is an optional extra: gemstead[torch]")

from tests.support.memory_store import MemoryStore  # noqa: E402
from tests.support.tolerances import TORCH_GRADIENTS, TORCH_LOGITS  # noqa: E402

from gemstead.backend.torch import TextModel  # noqa: E402
from gemstead.backend.torch import model as torch_model  # noqa: E402
from gemstead.spec.variants import VARIANTS  # noqa: E402

TINY = ("tiny-e2b", "tiny-e4b", "tiny-12b", "tiny-26b", "tiny-31b")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def model_of(name, seed=0):
    return TextModel.from_store(MemoryStore(VARIANTS[name], seed, scale=0.12))


def ids_of(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def next_token_loss(model, ids, **more):
    logits = model(ids[:, :-1], **more)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def same_gradients(got, wanted, tolerance=TORCH_GRADIENTS):
    assert got.keys() == wanted.keys()
    for name, g in wanted.items():
        torch.testing.assert_close(
            got[name], g, rtol=0, atol=tolerance * (float(g.abs().max()) + 1e-2), msg=name
        )


@pytest.mark.parametrize("name", TINY)
def test_checkpointing_changes_neither_loss_nor_gradient(name):
    model, ids = model_of(name), ids_of((2, 26))
    loss = next_token_loss(model, ids)
    wanted = gradients(model, loss)
    model.checkpointing = True
    again = next_token_loss(model, ids)
    assert torch.equal(again, loss)
    same_gradients(gradients(model, again), wanted, 0)


@pytest.mark.parametrize("name", TINY)
def test_columns_nobody_reads_change_neither_loss_nor_gradient(name):
    model, ids = model_of(name), ids_of((3, 25))
    columns = torch.tensor([[3, 9, 10, 23], [0, 1, 2, 3], [20, 21, 22, 23]])
    targets = ids.gather(1, columns + 1)
    whole = model(ids[:, :-1]).gather(1, columns[..., None].expand(-1, -1, 256))
    some = model(ids[:, :-1], wanted=columns)
    torch.testing.assert_close(some, whole, rtol=0, atol=TORCH_LOGITS)
    losses = [torch.nn.functional.cross_entropy(x.flatten(0, 1), targets.flatten()) for x in (whole, some)]
    same_gradients(*(gradients(model, loss) for loss in losses))


@pytest.mark.parametrize("name", TINY)
def test_documents_packed_in_a_row_do_not_see_each_other(name):
    model = model_of(name)
    documents = [ids_of((1, n), seed=n) for n in (13, 5, 14)]  # 32 columns: the blocked masks of window 8
    segments = torch.tensor([[0] * 13 + [1] * 5 + [2] * 14])
    packed = model(torch.cat(documents, dim=1), segments=segments)
    alone = torch.cat([model(d) for d in documents], dim=1)
    torch.testing.assert_close(packed, alone, rtol=0, atol=TORCH_LOGITS)
    positions = torch.cat([torch.arange(d.shape[1]) for d in documents])[None]
    restarted = model(torch.cat(documents, dim=1), segments=segments, positions=positions)
    torch.testing.assert_close(restarted, alone, rtol=0, atol=TORCH_LOGITS)


def test_blocked_masks_are_only_faster():
    model, ids = model_of("tiny-e2b"), ids_of((2, 41))
    blocked, plain = model(ids[:, :40]), model(ids)  # 40 = 5 windows, 41 is not a multiple
    torch.testing.assert_close(blocked, plain[:, :40], rtol=0, atol=TORCH_LOGITS)


def test_shared_layers_reach_the_source_layer():
    """Numeric: moving the source's k_proj or v_proj moves the loss as its gradient says, sharers included."""
    model, ids = model_of("tiny-e2b"), ids_of((2, 26))
    source = model.spec.last_kv_layer_of("full")
    assert [x.index for x in model.spec.layers if x.kv_source == source] == [source, 8]
    whole = gradients(model, next_token_loss(model, ids))
    own = gradients(model, loss_without_sharing_back(model, ids))
    for leaf in ("k_proj", "v_proj"):
        name = f"layers.{source}.self_attn.{leaf}"
        step = 0.02 * whole[name] / whole[name].norm()
        up, down = (loss_after(model, name, x, ids) for x in (step, -step))
        assert (up - down) / 2 == pytest.approx((whole[name] * step).sum().item(), rel=0.03)
        assert (whole[name] - own[name]).norm() > 0.05 * whole[name].norm()


def loss_after(model, name, step, ids):
    """The loss with a weight moved by `step`, which is taken back."""
    with torch.no_grad():
        model.get_parameter(name).add_(step)
        loss = next_token_loss(model, ids).item()
        model.get_parameter(name).sub_(step)
    return loss


def loss_without_sharing_back(model, ids):
    """The same loss, but layers that read the source's K/V pass no gradient back to it."""
    original = torch_model.block

    def block(layer, x, ple, kv, *rest):
        return original(layer, x, ple, kv and tuple(y.detach() for y in kv), *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_model, "block", block)
        return next_token_loss(model, ids)


def test_weights_come_back_as_they_went_in():
    store = MemoryStore(VARIANTS["tiny-26b"])
    tensors = TextModel.from_store(store).to_tensors()
    assert tensors.keys() == store.tensors.keys()
    for name, tensor in store.tensors.items():
        assert np.array_equal(tensors[name], tensor.float32())


@pytest.mark.parametrize("name", TINY)
def test_fresh_weights_are_sane(name):
    model = TextModel(VARIANTS[name])
    model.init_weights(3)
    logits = model(ids_of((2, 24)))
    assert logits.abs().max() < 15  # well inside the softcap of 30
    assert all(g.isfinite().all() for g in gradients(model, next_token_loss(model, ids_of((2, 25)))).values())
    again = TextModel(VARIANTS[name])
    again.init_weights(3)
    assert torch.equal(again(ids_of((2, 24))), logits)
