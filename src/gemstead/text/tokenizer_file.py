"""A vocabulary as the files Hugging Face's libraries read: tokenizer.json and tokenizer_config.json.

The inverse of tokenizer.read_tokenizer_json, for a model that leaves a GGUF. Writes nothing to disk itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gemstead.text.tokenizer import SPACE, SPECIAL_TYPES

_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
# GGUF's name of a special token -> the key of tokenizer_config.json.
_SPECIAL = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}


def tokenizer_files(
    tokens: Sequence[str], types: Sequence[int], merges: Sequence[str], special: Mapping[str, int]
) -> dict[str, bytes]:
    """Both files by name, from the arrays of a GGUF and the ids it calls special ({"bos": 2})."""
    unknown = special.get("unknown")
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    added = [
        {"id": i, "content": token, **_FLAGS, "special": True}
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in SPECIAL_TYPES
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": replace,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if unknown is None else tokens[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{key: tokens[special[name]] for name, key in _SPECIAL.items() if name in special},
    }
    return {"tokenizer.json": _json(tokenizer), "tokenizer_config.json": _json(config)}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
