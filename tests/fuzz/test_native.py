"""Mutated weight files through the native engine, in processes of their own: words or tokens, never a crash.

What a reader can notice is a WeightsError. What it cannot, values, must not harm: whatever a weight says,
scales that are no numbers included, a request ends. A damaged packed file is packed again, silently.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.backend.reference.test_model_batches import realistic
from tests.fuzz.test_weights import MUTATIONS, gguf_head

from gemstead.backend.native import is_built
from gemstead.spec.model import DrafterSpec, ModelSpec
from gemstead.spec.variants import DRAFTERS, VARIANTS
from gemstead.weights.model_file import write_model_gguf
from support.memory_store import MemoryStore

ROUNDS, CASES, SECONDS = 8, 12, 240

pytestmark = pytest.mark.skipif(not is_built(), reason="the native engine is not built")

# Opens each file named on its input and generates; a line before and one after, so that a crash has a name.
WORKER = """
import json, os, sys, time
import gemstead
from gemstead.backend.native import packing
packing._KEPT_BYTES = 0
greedy = gemstead.SamplingParams(temperature=0, max_tokens=6)
drawn = gemstead.SamplingParams(seed=3, max_tokens=6, top_k=20, top_p=0.9, min_p=0.01, repetition_penalty=1.1)
for line in sys.stdin:
    path, os.environ["GEMSTEAD_CACHE"], drafter = json.loads(line)
    print("opening", path, flush=True)
    started = time.process_time()
    try:
        with gemstead.open(path, backend="native", threads=2, drafter=drafter, memory="8MB") as model:
            said = [model.generate([2, 5, 9, 11], x) for x in (greedy, drawn)]
    except gemstead.GemsteadError as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps([said, time.process_time() - started]), flush=True)
"""


def played(files: list[Path], drafter: Any = None, caches: list[Path] | None = None) -> list[Any]:
    """What opening each file led to: continuations, or the words of an error. A drafter for all, or each."""
    drafters = drafter if isinstance(drafter, list) else [drafter] * len(files)
    rows = zip(files, caches or [""] * len(files), drafters, strict=True)
    asked = [json.dumps([word and str(word) for word in row]) for row in rows]
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input="\n".join(asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{done.returncode} after {lines[-1:]}: {done.stderr[-2000:]}"
    assert len(lines) == 2 * len(files)
    answers = [json.loads(line) for line in lines[1::2]]
    assert all(seconds < 5 for _, seconds in answers)  # of the processor, for others may need it too
    return [said for said, _ in answers]


def save(path: Path, spec: ModelSpec | DrafterSpec, kind: str) -> bytes:
    """A random model that works: without a vocabulary, for ids are enough. Its bytes."""
    write_model_gguf(path, spec, {n: t.values for n, t in MemoryStore(spec).tensors.items()}, kind)
    return path.read_bytes()


def assert_words_or_tokens(answers: list[Any]) -> None:
    for said in answers:
        if isinstance(said, str):
            assert said.startswith(("WeightsError: ", "BackendError: ", "ConfigError: ")), said
            assert len(said) < 20_000
        else:
            assert all(row and all(0 <= token < 4096 for token in row) for row in said)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_mutated_files(tmp_path: Path, seed: int) -> None:
    spec = [VARIANTS["tiny-e2b"], VARIANTS["tiny-26b"], VARIANTS["tiny-12b"]][seed % 3]
    good = save(tmp_path / "good.gguf", spec, ["q8_0", "q4_0", "bf16"][seed // 3])
    head, files = gguf_head(good), []
    for case in range(CASES):
        rng, raw = np.random.default_rng([seed, case]), bytearray(good)
        # Headers are test_weights.py's; here one in three cases aims at values, which open.
        reach = len(good) if case % 3 == 0 else head
        MUTATIONS[rng.integers(len(MUTATIONS))](raw, rng, min(reach, len(raw) - 1))
        files.append(tmp_path / f"{case}.gguf")
        files[-1].write_bytes(raw)
    answers = played(files)
    assert_words_or_tokens(answers)
    assert any(isinstance(said, str) for said in answers)
    assert not all(isinstance(said, str) for said in answers)


def test_mutated_drafters(tmp_path: Path) -> None:
    save(tmp_path / "model.gguf", VARIANTS["tiny-e2b"], "q8_0")
    good = save(tmp_path / "draft.gguf", DRAFTERS["tiny-e2b"], "q8_0")
    drafters = []
    for case in range(3 * CASES):
        rng, raw = np.random.default_rng([99, case]), bytearray(good)
        reach = len(good) if case % 2 else gguf_head(good)
        MUTATIONS[rng.integers(len(MUTATIONS))](raw, rng, min(reach, len(raw) - 1))
        drafters.append(tmp_path / f"{case}.gguf")
        drafters[-1].write_bytes(raw)
    assert_words_or_tokens(played([tmp_path / "model.gguf"] * len(drafters), drafters))


# float16, or half of a plain number: NaN, infinities, the largest number.
SCALES = [b"\x00\x7e", b"\x00\x7c", b"\x00\xfc", b"\xff\x7b"]
# How long a block is, and where its scale lies; q4_k has a second one behind the first.
BLOCKS = {
    "q8_0": (34, 0),
    "q4_0": (18, 0),
    "q4_k": (144, 0),
    "q6_k": (210, 208),
    "f32": (4, 2),
    "bf16": (2, 0),
}
TINY = {name: VARIANTS[name] for name in ("tiny-e2b", "tiny-26b")}
WIDE = {"wide": realistic()}  # rows of 256 and more, as the K formats need


@pytest.mark.parametrize("share", [1.0, 0.01])
@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("drafter", [None, "ngram"])
def test_values_that_are_no_numbers(tmp_path: Path, share: float, kind: str, drafter: str | None) -> None:
    block, place = BLOCKS[kind]
    files = []
    for name, spec in (WIDE if kind.endswith("_k") else TINY).items():
        good = save(tmp_path / f"{name}.gguf", spec, kind)
        start = (gguf_head(good) + 63) // 32 * 32
        for i, scale in enumerate(SCALES):
            raw = np.frombuffer(good, np.uint8).copy()
            rng = np.random.default_rng(i)
            # Not knowing where tensors begin, some bytes of quants change instead: no harm.
            at = np.arange(start, len(raw) - block, block)
            at = at[rng.random(len(at)) < share]
            for j, byte in enumerate(scale):
                raw[at + j + place] = byte
            files.append(tmp_path / f"{name}-{i}.gguf")
            files[-1].write_bytes(raw.tobytes())
    assert_words_or_tokens(played(files, drafter=drafter))


def test_a_mutated_packed_file_is_packed_again_or_harmless(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    save(model, VARIANTS["tiny-e2b"], "q4_0")
    other = tmp_path / "other.gguf"
    save(other, VARIANTS["tiny-e2b"], "q8_0")
    caches = [tmp_path / "mine", tmp_path / "theirs"]
    wanted, _ = played([model, other], caches=caches)
    assert not isinstance(wanted, str)
    (mine,), (theirs,) = ([*(cache / "packed").iterdir()] for cache in caches)
    good, rng = mine.read_bytes(), np.random.default_rng(4)
    damaged = [
        good[:-1],
        good[: len(good) // 2],
        good[:4096],
        good[:10],
        b"",
        good + b"x",
        theirs.read_bytes(),
    ]
    damaged += [good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :] for at in rng.integers(0, 4096, 10)]
    changed = [good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :] for at in rng.integers(4096, len(good), 20)]
    changed += [good[:at] + b"\xff" * 64 + good[at + 64 :] for at in (4096, len(good) - 64)]

    def opened(files: list[bytes]) -> tuple[list[Path], list[Any]]:
        caches = [tmp_path / f"{len(files)}-{i}" for i in range(len(files))]
        for cache, raw in zip(caches, files, strict=True):
            (cache / "packed").mkdir(parents=True)
            (cache / "packed" / mine.name).write_bytes(raw)
        return caches, played([model] * len(files), caches=caches)

    caches, said = opened(damaged)
    assert said == [wanted] * len(damaged)
    assert all((cache / "packed" / mine.name).read_bytes() == good for cache in caches)
    assert_words_or_tokens(opened(changed)[1])
