"""The torch backend gives transformers' logits, for every kind of model and drafter, cached or not."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.backend import open_backend
from gemstead.weights.store import open_store
from tests.support.models import (
    DRAFTERS,
    KINDS,
    all_layers_shared,
    random_ids,
    saved_drafter,
    saved_model,
    theirs,
    torch,
)
from tests.support.paging import Runner
from tests.support.tolerances import TORCH_LOGITS

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
    from gemstead.backend.torch import TextModel  # torch is optional: this file may be skipped

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
        with torch.no_grad():
            out = target.model.model(
                torch.from_numpy(ids.astype(np.int64))[None], use_cache=False, return_shared_kv_states=True
            )
        state, shared, token = out.last_hidden_state[:, -1:], dict(out.shared_kv_states), 7
        close(hidden, state[0, 0].numpy())
        for _ in range(4):
            ours = runner.draft({0: token}, {0: hidden})[0]
            with torch.no_grad(), all_layers_shared():
                embedding = target.model.model.embed_tokens(torch.tensor([[token]]))
                out = drafter.model(
                    inputs_embeds=torch.cat([embedding, state], dim=-1),
                    position_ids=torch.tensor([[length - 1]]),
                    shared_kv_states=shared,
                )
            close(ours.values_RV[0], out.logits[0, 0].numpy())
            state = out.last_hidden_state
            close(ours.hidden_RD[0], state[0, 0].numpy())
            hidden, token = ours.hidden_RD[0], int(out.logits[0, 0].argmax())
            assert int(ours.values_RV[0].argmax()) == token
