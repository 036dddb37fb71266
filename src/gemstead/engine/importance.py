"""How much each input column of each matrix matters: measured by running a model over text.

The mean square of what a column is multiplied with, which is how much a small error in it counts in the
matrix's output, as long as errors are independent. Used by weights/quantize.py for the choice of scales.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Listing

import numpy as np
import numpy.typing as npt

from gemstead.backend.reference.observe import ObservingBackend
from gemstead.engine.scores import reading_engine, score_rows
from gemstead.weights.store import Store

Floats = npt.NDArray[np.float32]
Importance = dict[str, Floats]

# A column no calibration text has touched still counts this part of the average: other texts will.
_FLOOR = 0.01
# It is the head, where columns differ, and it is looked up, where all of them are the residual alike.
_TIED = "embed_tokens"


def measure_importance(
    store: Store, texts: Listing[Listing[int]], threads: int, seen: Callable[[int], None] = lambda _: None
) -> Importance:
    """Importance [w], of experts [E, w], by tensor name, each 1 on average; from token ids, numpy alone.

    `seen` hears how many tokens were read. Tables that are only looked up have none.
    """
    backend = ObservingBackend(store, threads)
    try:
        engine = reading_engine(backend, max(map(len, texts)))
        try:
            for ids in texts:
                for rows in score_rows(engine, ids):
                    seen(len(rows))
        finally:
            engine.close()
        found = {name: _levelled(mean) for name, mean in backend.seen.mean_squares().items()}
        found[_TIED] = (found[_TIED] + np.float32(1)) * np.float32(0.5)
        return found
    finally:
        backend.close()


def _levelled(mean_squares: Floats) -> Floats:
    average = mean_squares.mean(axis=-1, keepdims=True)
    safe = np.where(average > 0, average, np.float32(1))
    levelled: Floats = np.where(average > 0, mean_squares / safe, np.float32(1)) + np.float32(_FLOOR)
    return levelled / np.float32(1 + _FLOOR)
