"""Every backend's mean of final hidden states is that of transformers, however the prompt is cut."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.models import random_ids, saved_model, torch
from tests.support.tolerances import NATIVE_LOGITS, REFERENCE_LOGITS, TORCH_LOGITS

from gemstead.backend import open_backend
from gemstead.backend.native import is_built, unsuited
from gemstead.engine.engine import Engine
from gemstead.engine.options import EngineOptions
from gemstead.types import SamplingParams
from gemstead.weights.store import open_store

TOLERANCES = {"reference": REFERENCE_LOGITS, "torch": TORCH_LOGITS, "native": NATIVE_LOGITS}


@pytest.mark.parametrize("name", ["reference", "torch", "native"])
@pytest.mark.parametrize("kind", ["e2b", "12b", "26b"])
def test_mean_of_hidden_states(kind, name):
    saved, ids = saved_model(kind), random_ids(kind, 75)
    with torch.no_grad():
        theirs = saved.model.model(torch.from_numpy(ids.astype(np.int64))[None], use_cache=False)
    with open_store(saved.folder) as store:
        if name == "native" and (not is_built() or unsuited(store.spec)):
            pytest.skip("the native backend does not run this one here")
        backend = open_backend(name, store)
        try:
            engine = Engine(backend, EngineOptions(max_rows=32, memory_bytes=64 << 20))
            talking = engine.submit([5, 6, 7], SamplingParams(max_tokens=30, temperature=0), eos_ids=[])
            engine.step()
            mine = engine.submit(ids.tolist(), SamplingParams(max_tokens=0), collect="pooled")
            while not (mine.is_finished and talking.is_finished):
                engine.step()
            skipped = int(ids[0] == store.spec.tokens.bos)
        finally:
            backend.close()
    assert mine.error is None
    assert talking.num_generated == 30
    wanted = theirs.last_hidden_state[0, skipped:].numpy().mean(axis=0)
    np.testing.assert_allclose(mine.pooled / (len(ids) - skipped), wanted, rtol=0, atol=TOLERANCES[name])
