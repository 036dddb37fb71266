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
from gemstead.types import KV_FORMATS, MOST_THREADS

if TYPE_CHECKING:
    from gemstead.weights.adapter import Adapter
    from gemstead.weights.store import Store

Adapters = Mapping[str, "Adapter"]
Opener = Callable[["Store", "Store | None", "int | None", str, Adapters], Backend]


def _reference(
    store: Store, drafter: Store | None, threads: int | None, kv: str, adapters: Adapters
) -> Backend:
    _check_plain(kv, "reference")
    return ReferenceBackend(store, drafter, threads, adapters)


def _torch(store: Store, drafter: Store | None, threads: int | None, kv: str, adapters: Adapters) -> Backend:
    _check_plain(kv, "torch")
    try:
        # torch is an optional extra and takes a second to import: only who asks for it pays.
        from gemstead.backend.torch import TorchBackend
    except ImportError as error:
        raise BackendError(
            f"the torch backend needs PyTorch, which cannot be imported here ({error}): "
            f"pip install 'gemstead[torch]', or choose the backend reference"
        ) from error
    return TorchBackend(store, drafter, threads=threads, adapters=adapters)


def _auto(store: Store, drafter: Store | None, threads: int | None, kv: str, adapters: Adapters) -> Backend:
    chosen = _reference if why_slow(store) else NativeBackend
    return chosen(store, drafter, threads, kv, adapters)


def _check_plain(kv: str, name: str) -> None:
    if kv != "f16":
        raise ConfigError(
            f"kv={kv} asks for a quantized K/V cache, and the backend {name} has none; leave it out, "
            "or choose the backend native where it is built"
        )


def why_slow(store: Store) -> str | None:
    """Why "auto" takes the slow reference backend for this model; None where it takes the native one."""
    if not is_built():
        return "is not built here: install a C++20 compiler (g++ or clang++), then gemstead again"
    return unsuited(store.spec) if isinstance(store.spec, ModelSpec) else None


TABLE: Mapping[str, Opener] = {
    "auto": _auto,
    "native": NativeBackend,
    "reference": _reference,
    "torch": _torch,
}


def open_backend(
    name: str,
    store: Store,
    drafter: Store | None = None,
    threads: int | None = None,
    kv: str = "f16",
    adapters: Adapters | None = None,
) -> Backend:
    """The backend of that name holding the store's weights; "auto" is the fastest that can.

    `threads` limits the cores a forward uses (None: the backend's choice); `kv` is how K/V are kept; the
    sequences of a batch may name `adapters`, whose files can be closed afterwards. ConfigError for an unknown
    name, thread count or kv, BackendError when the backend is not installed. The stores stay the caller's to
    close.
    """
    if name not in TABLE:
        raise ConfigError(f"there is no backend {name!r}; choose one of {', '.join(TABLE)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} leaves no core to compute on; give 1 or more, or None")
    if threads is not None and threads > MOST_THREADS:
        raise ConfigError(f"threads={threads} is more than {MOST_THREADS}; give the number of cores, or None")
    if kv not in KV_FORMATS:
        raise ConfigError(f"kv={kv!r} is no way to keep K/V; choose one of {', '.join(KV_FORMATS)}")
    return TABLE[name](store, drafter, threads, kv, adapters or {})


__all__ = ["TABLE", "open_backend", "why_slow"]
