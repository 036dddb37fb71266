"""The tables of known fields: disjoint, and complete for what transformers writes."""

from __future__ import annotations

import itertools

import pytest

from gemstead.spec import hf_fields

TABLES = {
    "text": hf_fields.TEXT_FIELDS,
    "tokens": hf_fields.TOKEN_FIELDS,
    "passed over": hf_fields.PASSED_OVER,
    "fixed": frozenset(hf_fields.FIXED),
}


@pytest.mark.parametrize("pair", list(itertools.combinations(TABLES, 2)))
def test_a_field_is_in_one_table_only(pair):
    assert not TABLES[pair[0]] & TABLES[pair[1]]


def test_nothing_that_changes_the_result_is_passed_over():
    suspicious = ("size", "head", "layer", "rope", "norm", "expert", "softcap", "window", "quant", "scale")
    found = {x for x in hf_fields.PASSED_OVER if any(word in x for word in suspicious)}
    # How transformers cuts or dispatches its work, and fields of encoder-decoder models.
    assert found == {"chunk_size_feed_forward", "_experts_implementation", "cross_attention_hidden_size"}


def test_every_field_transformers_declares_is_known():
    pytest.importorskip("torch", reason="transformers needs torch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    known = frozenset().union(*TABLES.values(), hf_fields.COMPOSITE_FIELDS, hf_fields.DRAFTER_FIELDS)
    configs = [
        transformers.Gemma4TextConfig(),
        transformers.Gemma4UnifiedTextConfig(),
        transformers.Gemma4Config(),
    ]
    text = transformers.Gemma4UnifiedTextConfig()
    configs.append(transformers.Gemma4UnifiedAssistantConfig(text_config=text))
    for config in configs:
        assert set(config.to_dict()) - known == set(), config.model_type
