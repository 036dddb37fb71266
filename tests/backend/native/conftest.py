"""The C++ core must be built; `just test` does that. Without it these tests say so and pass over."""

from __future__ import annotations

import pytest

from gemstead.backend.native.library import PATH


@pytest.fixture(autouse=True, scope="session")
def built():
    if not PATH.exists():
        pytest.skip("the native engine is not built: python native/build.py library")
