"""A vocabulary for grammars, and drawing at random what a grammar lets through."""

from __future__ import annotations

import numpy as np

from gemstead.engine.constraint import unpack_mask
from gemstead.engine.grammar import Grammar
from gemstead.session import vocabulary_of
from support.vocab import small_tokenizer

TOKENIZER = small_tokenizer()
VOCABULARY = vocabulary_of(TOKENIZER, TOKENIZER.vocab_size, (1, 106, 50))


def draw(grammar: str, rng: np.random.Generator, most: int = 4000) -> list[int] | None:
    """Tokens drawn from the masks, what closes things preferred; None if `most` were not enough."""
    running, ids = Grammar(VOCABULARY, grammar), []
    closing = [TOKENIZER.control.quote, TOKENIZER.control.call_close]
    closing += [i for text in ("}", "]") for i in TOKENIZER.encode(text)]
    for _ in range(most):
        allowed = unpack_mask(running.mask(), TOKENIZER.vocab_size)
        choices = np.flatnonzero(allowed)
        assert len(choices), "a grammar that leaves nothing to say"
        ends = [i for i in closing if allowed[i]]
        pick = int(rng.choice(ends if ends and rng.random() < 0.3 else choices))
        if pick in VOCABULARY.eos_ids:
            return ids
        ids.append(pick)
        running.accept(pick)
        if pick == TOKENIZER.control.call_close or running.is_done():
            return ids
    return None
