"""The torch backend gives transformers' logits, for every kind of model and drafter, cached or not."""

from __future__ import annotations

import numpy as np
import pytest
from tests.parity.test_reference import their_draft, their_state
from tests.support.models import (
    DRAFTERS,
    KINDS,
    random_ids,
    saved_drafter,
    saved_model,
    theirs,
    torch,
)
from tests.support.paging import Runner
from tests.support.tolerances import TORCH_GRADIENTS, TORCH_LOGITS

from gemstead.backend import open_backend
from gemstead.weights.store import open_store

TextModel = pytest.importorskip("gemstead.backend.torch").TextModel
functional = torch.nn.functional
LONGER_THAN_WINDOW = 75  # tokens; windows are 5 and 8


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TORCH_LOGITS)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_the_backend(kind):
    saved, ids = saved_model(kind, 1), random_ids(kind, LONGER_THAN_WINDOW)
    with open_store(saved.folder) as store:
        close(Runner(open_backend("torch", store)).step({0: ids})[0].values_RV, theirs(saved, ids))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_the_module(kind):
    saved, ids = saved_model(kind, 2), random_ids(kind, 80)  # 80 = 10 windows: the blocked masks
    with open_store(saved.folder) as store:
        model = TextModel.from_store(store)
    with torch.no_grad():
        close(model(torch.from_numpy(ids)[None].long())[0].numpy(), theirs(saved, ids))


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_continuation(kind):
    saved, prompt = saved_model(kind), random_ids(kind, 11)
    with torch.no_grad():
        wanted = saved.model.generate(
            torch.from_numpy(prompt.astype(np.int64))[None],
            max_new_tokens=64,
            do_sample=False,
            eos_token_id=[-1],
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
    with open_store(saved.folder) as store:
        runner = Runner(open_backend("torch", store))
        row, got = runner.step({0: prompt}, "last")[0].values_RV[0], []
        while len(got) < 64:
            got.append(int(row.argmax()))
            row = runner.step({0: got[-1:]}, "last")[0].values_RV[0]
    assert got == wanted


# Shorter than every window, exactly at one, and beyond.
@pytest.mark.parametrize("length", [4, 8, 30])
@pytest.mark.parametrize("kind", DRAFTERS)
def test_drafter(kind, length):
    target, drafter = saved_model(DRAFTERS[kind][0]), saved_drafter(kind)
    ids = random_ids(DRAFTERS[kind][0], length, seed=3)
    with open_store(target.folder) as store, open_store(drafter.folder) as drafter_store:
        runner = Runner(open_backend("torch", store, drafter_store))
        hidden = runner.step({0: ids}, "last", want_hidden=True)[0].hidden_RD[0]
        (state, shared), token = their_state(target, ids), 7
        close(hidden, state[0, 0].numpy())
        for _ in range(4):
            ours = runner.draft({0: token}, {0: hidden})[0]
            wanted, state = their_draft(target, drafter, token, state, shared, position=length - 1)
            close(ours.values_RV[0], wanted)
            close(ours.hidden_RD[0], state[0, 0].numpy())
            hidden, token = ours.hidden_RD[0], int(wanted.argmax())
            assert int(ours.values_RV[0].argmax()) == token


@pytest.mark.parametrize("kind", ["e2b", "12b"])
def test_bfloat16_is_as_near_as_transformers(kind):
    saved, ids = saved_model(kind, 0, "bfloat16"), random_ids(kind, LONGER_THAN_WINDOW)
    narrow = type(saved.model).from_pretrained(
        saved.folder, dtype=torch.bfloat16, attn_implementation="eager"
    )
    batch, wanted = torch.from_numpy(ids)[None].long(), theirs(saved, ids)
    with open_store(saved.folder) as store, torch.no_grad():
        got = TextModel.from_store(store, dtype=torch.bfloat16)(batch)[0].numpy()
        their_error = np.abs(narrow.eval()(batch).logits[0].float().numpy() - wanted).mean()
    assert np.abs(got - wanted).mean() < 1.3 * their_error


# The loss and every gradient, that of a source layer's k_proj and v_proj through its sharers included:
# the place where use_cache=False and checkpointing broke transformers (huggingface/transformers#45242).
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, checkpointing):
    saved, ids = saved_model(kind, 3), np.maximum(random_ids(kind, 31), 1)  # theirs never trains row 0 (pad)
    batch, target = torch.from_numpy(ids)[None, :-1].long(), torch.from_numpy(ids)[1:].long()
    with open_store(saved.folder) as store:
        ours = TextModel.from_store(store)
    ours.checkpointing = checkpointing
    saved.model.zero_grad()
    their_loss = functional.cross_entropy(saved.model(batch, use_cache=False).logits[0], target)
    loss = functional.cross_entropy(ours(batch)[0], target)
    assert loss.item() == pytest.approx(their_loss.item(), abs=1e-5)
    loss.backward()
    their_loss.backward()
    wanted = {name: p.grad for name, p in saved.model.named_parameters()}
    for name, p in ours.named_parameters():
        if p.requires_grad:
            theirs_name = f"model.{name}" if f"model.{name}" in wanted else f"model.{name}.weight"
            g = wanted.pop(theirs_name)
            worst = TORCH_GRADIENTS * float(g.abs().max()) + 1e-6
            torch.testing.assert_close(p.grad, g, rtol=0, atol=worst, msg=name)
    assert not [name for name, g in wanted.items() if g is not None and "lm_head" not in name]
