"""What a fake hub holds in tests: Google's repositories in small, some odd ones, all of random weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from gemstead.spec.variants import DRAFTERS, VARIANTS
from support.weight_files import save_folder, save_gguf

E2B = "google/gemma-4-E2B-it-qat-q4_0-gguf"
WEIGHTS, MMPROJ = "gemma-4-E2B_q4_0-it.gguf", "gemma-4-E2B-it-mmproj.gguf"


@cache
def repositories() -> dict[str, dict[str, bytes]]:
    """Repositories by name: Google's GGUF of E2B in small, one with several formats, folders, a drafter."""
    with TemporaryDirectory() as home:
        return _written(Path(home))


def _written(folder: Path) -> dict[str, dict[str, bytes]]:
    spec = VARIANTS["tiny-e2b"]
    raw = {}
    for name in ("f32", "q8_0"):
        save_gguf(folder / f"{name}.gguf", spec, name)
        raw[name] = (folder / f"{name}.gguf").read_bytes()
    save_folder(folder / "whole", spec, "bf16")
    save_folder(folder / "drafter", DRAFTERS["tiny-e2b"], "bf16")
    mmproj = raw["q8_0"][:1000]  # never opened here
    files = {
        kind: {path.name: path.read_bytes() for path in (folder / kind).iterdir()}
        for kind in ("whole", "drafter")
    }
    several = {f"tiny-{name.upper()}.gguf": content for name, content in raw.items()}
    return {
        E2B: {WEIGHTS: raw["q8_0"], MMPROJ: mmproj, "README.md": b"# E2B"},
        "google/gemma-4-E2B-it": {**files["whole"], "README.md": b"# E2B"},
        "google/gemma-4-E2B-it-assistant": files["drafter"],
        "someone/several-GGUF": {**several, "mmproj-F16.gguf": mmproj, "mmproj-F32.gguf": mmproj},
        "someone/litert": {"model.litertlm": b"LITERTLM" + b"x" * 64},
    }
