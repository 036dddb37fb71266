"""How files ask to be sampled."""

from __future__ import annotations

from gemstead.weights.sampling import from_generation_config, from_metadata, to_generation_config, to_metadata


def test_the_keys_of_a_gguf() -> None:
    asks = {"general.sampling.temp": 0.7, "general.sampling.top_k": 20, "general.sampling.penalty": 1.3}
    assert from_metadata(asks) == {"temperature": 0.7, "top_k": 20}
    assert from_metadata({}) == {}


def test_a_generation_config() -> None:
    card = {"do_sample": True, "temperature": 1.0, "top_k": 64, "top_p": 0.95, "eos_token_id": [1, 106]}
    assert from_generation_config(card) == {"temperature": 1.0, "top_k": 64, "top_p": 0.95}
    assert from_generation_config({"temperature": None}) == {}
    assert from_generation_config({"do_sample": False, "temperature": 0.8}) == {"temperature": 0.0}


def test_what_is_written_is_read_back() -> None:
    options = {"temperature": 0.0, "top_k": 64, "top_p": 0.95}
    assert from_metadata(to_metadata(options)) == options
    assert from_generation_config(to_generation_config(options)) == options
