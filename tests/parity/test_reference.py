"""The reference backend gives transformers' logits, for every kind of model and drafter."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.models import (
    DRAFTERS,
    KINDS,
    all_layers_shared,
    random_ids,
    saved_drafter,
    saved_model,
    saved_whole_model,
    theirs,
    torch,
)
from tests.support.paging import Runner
from tests.support.tolerances import REFERENCE_LOGITS

from gemstead.backend import open_backend
from gemstead.weights.store import open_store

LONGER_THAN_WINDOW = 75  # tokens; windows are 5 and 8


def logits(folder, ids):
    with open_store(folder) as store:
        return Runner(open_backend("reference", store), seed=1).step({0: ids})[0].values_RV


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_logits(kind, seed):
    saved, ids = saved_model(kind, seed), random_ids(kind, LONGER_THAN_WINDOW, seed)
    np.testing.assert_allclose(logits(saved.folder, ids), theirs(saved, ids), rtol=0, atol=REFERENCE_LOGITS)


@pytest.mark.parametrize("kind", ["e2b", "12b", "odd-sizes"])
def test_logits_of_bfloat16_files(kind):
    saved, ids = saved_model(kind, 0, "bfloat16"), random_ids(kind, LONGER_THAN_WINDOW)
    np.testing.assert_allclose(logits(saved.folder, ids), theirs(saved, ids), rtol=0, atol=REFERENCE_LOGITS)


def test_logits_of_the_unified_family():
    saved, ids = saved_model("12b", family="Gemma4Unified"), random_ids("12b", LONGER_THAN_WINDOW)
    np.testing.assert_allclose(logits(saved.folder, ids), theirs(saved, ids), rtol=0, atol=REFERENCE_LOGITS)


def test_logits_of_the_text_part_of_a_whole_model():
    saved, ids = saved_whole_model(), random_ids("e2b", LONGER_THAN_WINDOW)
    np.testing.assert_allclose(logits(saved.folder, ids), theirs(saved, ids), rtol=0, atol=REFERENCE_LOGITS)


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
        runner = Runner(open_backend("reference", store))
        row, got = runner.step({0: prompt}, "last")[0].values_RV[0], []
        while len(got) < 64:
            got.append(int(row.argmax()))
            row = runner.step({0: got[-1:]}, "last")[0].values_RV[0]
    assert got == wanted


# Shorter than every window, exactly at one, and beyond.
@pytest.mark.parametrize("length", [4, 8, 30])
@pytest.mark.parametrize(
    ("kind", "family"), [*((kind, "Gemma4") for kind in DRAFTERS), ("12b", "Gemma4Unified")]
)
def test_drafter(kind, family, length):
    target = saved_model(DRAFTERS[kind][0], family=family)
    drafter = saved_drafter(kind, family=family)
    ids = random_ids(DRAFTERS[kind][0], length, seed=3)
    with open_store(target.folder) as store, open_store(drafter.folder) as drafter_store:
        runner = Runner(open_backend("reference", store, drafter_store))
        hidden = runner.step({0: ids}, "last", want_hidden=True)[0].hidden_RD[0]
        state, shared = their_state(target, ids)
        np.testing.assert_allclose(hidden, state[0, 0].numpy(), rtol=0, atol=REFERENCE_LOGITS)
        token = 7
        for _ in range(4):
            ours = runner.draft({0: token}, {0: hidden})[0]
            wanted, state = their_draft(target, drafter, token, state, shared, position=length - 1)
            np.testing.assert_allclose(ours.values_RV[0], wanted, rtol=0, atol=REFERENCE_LOGITS)
            np.testing.assert_allclose(ours.hidden_RD[0], state[0, 0].numpy(), rtol=0, atol=REFERENCE_LOGITS)
            hidden, token = ours.hidden_RD[0], int(wanted.argmax())
            assert int(ours.values_RV[0].argmax()) == token


def their_state(target, ids):
    """transformers' final hidden state of the last token, and the K/V it shares with a drafter.

    transformers shares K/V only in models that share it among their own layers; a drafter needs the
    last of each kind in any model.
    """
    types = target.model.config.layer_types[: -target.model.config.num_kv_shared_layers or None]
    for kind in set(types):
        last = max(i for i, t in enumerate(types) if t == kind)
        target.model.model.layers[last].self_attn.store_full_length_kv = True
    with torch.no_grad():
        out = target.model.model(
            torch.from_numpy(ids.astype(np.int64))[None], use_cache=False, return_shared_kv_states=True
        )
    return out.last_hidden_state[:, -1:], dict(out.shared_kv_states)


def their_draft(target, drafter, token, state, shared, position):
    """One step of transformers' assistant model: logits and the next state."""
    with torch.no_grad(), all_layers_shared():
        embedding = target.model.model.embed_tokens(torch.tensor([[token]]))
        out = drafter.model(
            inputs_embeds=torch.cat([embedding, state], dim=-1),
            position_ids=torch.tensor([[position]]),
            shared_kv_states=shared,
        )
    return out.logits[0, 0].numpy(), out.last_hidden_state
