"""A GGUF of quantised tensors gives the logits of its dequantised weights, in transformers and here."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from tests.support.gguf_models import write_gguf
from tests.support.models import Saved, random_ids, text_config, theirs, torch, transformers
from tests.support.paging import Runner
from tests.support.tolerances import REFERENCE_LOGITS

from gemstead.backend import open_backend
from gemstead.backend.reference import weights
from gemstead.weights.store import open_store

# Rows of 256 values, so that K-quants fit; 96 for what only formats of 32 can hold.
WIDE = {"hidden_size": 256, "intermediate_size": 512, "hidden_size_per_layer_input": 0, "head_dim": 64}
CASES = {
    "e2b": {"hidden_size_per_layer_input": 256, "intermediate_size": 256, "global_head_dim": 128},
    "12b": {"global_head_dim": 128},
    "26b": {"moe_intermediate_size": 96, "global_head_dim": 64},
    "31b": {"global_head_dim": 32},
}
FORMATS = ("Q4_0", "Q8_0", "Q4_K", "Q6_K", "mixed")


def format_of(formats, tensor):
    if formats != "mixed":
        return formats
    return "Q6_K" if "embed" in tensor.name else "Q8_0" if "down" in tensor.name else "Q4_0"


@pytest.mark.parametrize("formats", FORMATS)
@pytest.mark.parametrize("kind", CASES)
def test_logits_are_those_of_the_dequantised_weights(kind, formats, tmp_path, monkeypatch):
    config = text_config(kind, **{**WIDE, **CASES[kind]})
    model = transformers.Gemma4ForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "hf")
    with open_store(tmp_path / "hf") as store:
        spec, names = store.spec, store.tensors
    file = tmp_path / "model.gguf"
    meaning = write_gguf(file, spec, partial(format_of, formats), split_experts=formats == "mixed")
    assert meaning.keys() == names.keys()
    load(model, meaning)
    ids = random_ids(kind, 40, seed=1)
    with open_store(file) as store:
        kept = Runner(open_backend("reference", store)).step({0: ids})[0].values_RV
        monkeypatch.setattr(weights, "RESIDENT_BYTES", 0)
        unpacked_on_the_way = Runner(open_backend("reference", store)).step({0: ids})[0].values_RV
    np.testing.assert_allclose(kept, theirs(Saved(file, model), ids), rtol=0, atol=REFERENCE_LOGITS)
    assert np.array_equal(kept, unpacked_on_the_way)


def load(model, meaning):
    """Give a model of transformers the dequantised weights."""
    values = dict(model.model.named_parameters()) | dict(model.model.named_buffers())
    with torch.no_grad():
        for name, array in meaning.items():
            value = values.get(f"{name}.weight", values.get(name))
            value.copy_(torch.from_numpy(np.ascontiguousarray(array)))
