"""Backends by name: `open_backend` is how the engine's callers get one.

Each backend is a folder here; TABLE is the only list of them. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gemstead.backend.base import Backend
from gemstead.backend.native import NativeBackend
from gemstead.backend.reference import ReferenceBackend
from gemstead.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from gemstead.weights.store import Store

Opener = Callable[["Store", "Store | None", "int | None"], Backend]


def _torch(store: Store, drafter: Store | None, threads: int | None) -> Backend:
    try:
        # torch is an optional extra and takes a second to import: only who asks for it pays.
        from gemstead.backend.torch import TorchBackend
    except ImportError as error:
        raise BackendError(
            f"the torch backend needs PyTorch, which cannot be imported here ({error}): "
            f"pip install 'gemstead[torch]', or choose the backend reference"
        ) from error
    return TorchBackend(store, drafter, threads=threads)


TABLE: Mapping[str, Opener] = {
    "auto": ReferenceBackend,
    "native": NativeBackend,
    "reference": ReferenceBackend,
    "torch": _torch,
}


def open_backend(
    name: str, store: Store, drafter: Store | None = None, threads: int | None = None
) -> Backend:
    """The backend of that name holding the store's weights; "auto" is the best one for this machine.

    `threads` limits the cores a forward uses (None: the backend's choice). ConfigError for an unknown
    name or thread count, BackendError when the backend is not installed. The stores stay the caller's
    to close.
    """
    if name not in TABLE:
        raise ConfigError(f"there is no backend {name!r}; choose one of {', '.join(TABLE)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} leaves no core to compute on; give 1 or more, or None")
    return TABLE[name](store, drafter, threads)


__all__ = ["TABLE", "open_backend"]
