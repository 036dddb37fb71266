"""What comes next? The five likeliest tokens after a text, straight from the logits."""

import numpy as np

import gemstead

with gemstead.open("pebble") as model:
    ids = [model.spec.tokens.bos, *model.tokenizer.encode("Two and two make")]
    logits = model.logits(ids)[-1]
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    for token in np.argsort(-shares)[:5]:
        print(f"{shares[token]:6.1%}  {model.tokenizer.decode([int(token)])!r}")
