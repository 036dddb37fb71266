"""A short name by which a model's files are known again, for what is derived from them and kept on disk.

Reading all of a model to know it again would cost more than most of what is kept: this looks at sizes,
times, every tensor's place and a sample of its bytes. Neighbours: packed_file.py; model.py's prefix cache.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemstead.weights.store import Store

_SAMPLE_BYTES = 64


def fingerprint(store: Store, *more: str) -> str:
    """40 hex digits over the files of a store and whatever else decides what is kept under the name.

    A file changed in place to the same length, within one tick of its clock and outside of every
    sample, is not noticed. OSError when a file is gone.
    """
    digest = hashlib.blake2b("\n".join(more).encode(), digest_size=20)
    seen: set[Path] = set()
    for name, tensor in store.tensors.items():
        for part in tensor.parts:
            if part.file.path not in seen:
                seen.add(part.file.path)
                info = part.file.path.stat()
                digest.update(f"{info.st_size} {info.st_mtime_ns}\n".encode())
            digest.update(f"{name} {part.format.name} {part.shape} {part.start}\n".encode())
            middle = part.start + max(0, part.nbytes // 2 - _SAMPLE_BYTES)
            digest.update(part.file.view(middle, min(_SAMPLE_BYTES, part.nbytes)).tobytes())
    return digest.hexdigest()
