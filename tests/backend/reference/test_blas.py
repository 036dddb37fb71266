"""Setting the threads of numpy's OpenBLAS."""

from __future__ import annotations

import numpy as np
import pytest

from gemstead.backend.reference.blas import limit_threads


def test_numpys_openblas_is_found_where_numpy_has_one():
    if "openblas" not in str(np.show_config(mode="dicts")).lower():
        pytest.skip("this numpy was built without OpenBLAS")
    assert limit_threads(1)
