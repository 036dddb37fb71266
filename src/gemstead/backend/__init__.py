"""Backends by name: `open_backend` is how the engine's callers get one.

Each backend is a folder here; TABLE is the only list of them. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gemstead.backend.base import Backend
from gemstead.backend.native import NativeBackend, is_built, unsuited
from gemstead.backend.reference import ReferenceBackend
from gemstead.errors import BackendError, ConfigError
from gemstead.spec.model import ModelSpec

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


def _auto(store: Store, drafter: Store | None, threads: int | None) -> Backend:
    chosen = ReferenceBackend if why_slow(store) else NativeBackend
    return chosen(store, drafter, threads)


def why_slow(store: Store) -> str | None:
    """Why "auto" takes the slow reference backend for this model; None where it takes the native one."""
    if not is_built():
        return "is not built here: install a C++20 compiler (g++ or clang++), then gemstead again"
    return unsuited(store.spec) if isinstance(store.spec, ModelSpec) else None


TABLE: Mapping[str, Opener] = {
    "auto": _auto,
    "native": NativeBackend,
    "reference": ReferenceBackend,
    "torch": _torch,
}


def open_backend(
    name: str, store: Store, drafter: Store | None = None, threads: int | None = None
) -> Backend:
    """The backend of that name holding the store's weights; "auto" is the fastest that can.

    `threads` limits the cores a forward uses (None: the backend's choice). ConfigError for an unknown
    name or thread count, BackendError when the backend is not installed. The stores stay the caller's
    to close.
    """
    if name not in TABLE:
        raise ConfigError(f"there is no backend {name!r}; choose one of {', '.join(TABLE)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} leaves no core to compute on; give 1 or more, or None")
    return TABLE[name](store, drafter, threads)


__all__ = ["TABLE", "open_backend", "why_slow"]
