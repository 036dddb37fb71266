"""Which fields of config.json gemstead reads, which must have one value, and which it may pass over.

The only place where ignoring a field is allowed; every field outside these tables is an error in hf.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TEXT_FIELDS = _words(
    "model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads head_dim global_head_dim num_global_key_value_heads per_layer_config layer_types "
    "sliding_window max_position_embeddings rms_norm_eps final_logit_softcapping rope_parameters rope_theta "
    "rope_local_base_freq partial_rotary_factor attention_k_eq_v num_kv_shared_layers use_double_wide_mlp "
    "hidden_size_per_layer_input vocab_size_per_layer_input enable_moe_block num_experts top_k_experts "
    "moe_intermediate_size expert_intermediate_size use_bidirectional_attention"
)
TOKEN_FIELDS = _words(
    "bos_token_id eos_token_id pad_token_id suppress_tokens boi_token_id eoi_token_id image_token_id "
    "video_token_id boa_token_id eoa_token_id eoa_token_index audio_token_id"
)
COMPOSITE_FIELDS = _words("model_type text_config vision_config audio_config vision_soft_tokens_per_image")
DRAFTER_FIELDS = _words(
    "backbone_hidden_size use_ordered_embeddings num_centroids centroid_intermediate_top_k"
)
# Known, and without effect on the logits: bookkeeping of transformers, training and generation defaults.
PASSED_OVER = _words(
    "_name_or_path architectures attention_dropout chunk_size_feed_forward dtype torch_dtype id2label "
    "label2id initializer_range is_encoder_decoder is_decoder output_attentions output_hidden_states "
    "problem_type return_dict transformers_version use_cache attn_implementation _attn_implementation "
    "_attn_implementation_autoset _experts_implementation cache_implementation add_cross_attention "
    "cross_attention_hidden_size decoder_start_token_id finetuning_task prefix sep_token_id "
    "task_specific_params tokenizer_class torchscript tie_encoder_decoder use_bfloat16 "
    "unsloth_fixed unsloth_version"
)
_NO_BIAS = (False, "no linear layer of Gemma 4 has a bias")
_GELU = ("gelu_pytorch_tanh", "it is the only activation of Gemma 4")
_QUANTISED = (None, "gemstead reads plain weights here; use the unquantised model or a GGUF file of it")
FIXED: Mapping[str, tuple[Any, str]] = {
    "attention_bias": _NO_BIAS,
    "mlp_bias": _NO_BIAS,
    "hidden_activation": _GELU,
    "hidden_act": _GELU,
    "attention_scale": (1.0, "queries are normalised, so scores are not scaled"),
    "query_pre_attn_scalar": (1, "queries are normalised, so scores are not scaled"),
    "attn_logit_softcapping": (None, "attention scores of Gemma 4 are not capped"),
    "tie_word_embeddings": (True, "the head of Gemma 4 is its embedding"),
    "pruned_heads": ({}, "heads are all there or it is another model"),
    "rope_scaling": (None, "Gemma 4 states its RoPE in rope_parameters"),
    "quantization_config": _QUANTISED,
    "quantization": _QUANTISED,
}
