"""Writes a model again in another number format, tensor by tensor, and says what each of them lost.

Reads and writes a piece at a time, so memory does not grow with the model; the new model appears whole or
not at all. Vocabulary, chat template and metadata go with it. Neighbours: mixture.py chooses the formats,
formats.py packs, gguf_write.py and safetensors.py write. Above: cli/quantize.py.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gemstead.errors import WeightsError
from gemstead.spec.model import ModelSpec
from gemstead.spec.tensors import TensorSpec, drafter_tensors, text_tensors
from gemstead.weights.ahead import in_order
from gemstead.weights.formats import Format, get
from gemstead.weights.gguf import GgufFile, raw_metadata
from gemstead.weights.gguf_write import Raw, Value, write_gguf
from gemstead.weights.jsonfile import read_object
from gemstead.weights.mapped import plain_os_error
from gemstead.weights.mixture import MIXTURES, PLAIN, mix_formats
from gemstead.weights.model_file import config_json, hf_name, model_keys, rope_entries
from gemstead.weights.safetensors import INDEX_NAME, write_safetensors
from gemstead.weights.sampling import to_generation_config, to_metadata
from gemstead.weights.store import Store
from gemstead.weights.tensor import Tensor
from gemstead.weights.vocabulary import Vocabulary
from gemstead.weights.writing import Bytes, Entry, entry_from_array

Floats = npt.NDArray[np.float32]
Importance = Mapping[str, Floats]
Seen = Callable[[int], None]
_Converted = tuple[Bytes, float, float, float]  # packed; squares of values, of errors; largest error

_COPIED_BYTES = 1 << 20  # at a time
_SPARE_BYTES = 64 << 20  # of disk, for the head of the file and for others
_OWN_KEYS = ("general.alignment", "general.file_type", "general.quantization_version")
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
# Without importance too the scale of least error is searched for in these; finer formats gain too little.
_SEARCHED = ("q4_0", "q4_1", "q5_0", "q5_1")
_EVEN = np.ones(1, np.float32)
# Files beside the weights of a Hugging Face folder that a copy in another format needs too.
_COMPANIONS = (".json", ".jinja", ".model", ".txt", ".md")


@dataclass(frozen=True)
class TensorReport:
    """What became of one tensor. `relative_rmse` is the error's root mean square over the values' own,
    `largest_error` absolute; both are 0 for a tensor that was copied as it was.
    """

    name: str
    shape: tuple[int, ...]
    before: str
    after: str
    before_bytes: int
    after_bytes: int
    relative_rmse: float
    largest_error: float


@dataclass
class _Piece:
    """One tensor on its way: what is read, the format it gets, its name there, whose importance it has."""

    name: str
    tensor: Tensor
    format: Format
    row: TensorSpec | None
    squares: float = 0.0
    error_squares: float = 0.0
    largest_error: float = 0.0

    @property
    def is_copied(self) -> bool:
        """Whether the bytes stay what they are."""
        return self.tensor.format == self.format.name and len(self.tensor.parts) == 1

    def report(self) -> TensorReport:
        """What became of it; after it was written."""
        entry = Entry(self.name, self.tensor.shape, self.format, lambda: ())
        return TensorReport(
            self.row.name if self.row is not None else self.name,
            self.tensor.shape,
            self.tensor.format,
            self.format.name,
            self.tensor.nbytes,
            entry.nbytes,
            math.sqrt(self.error_squares / self.squares) if self.squares else 0.0,
            self.largest_error,
        )


@dataclass(frozen=True)
class Texts:
    """The side of a model that is no numbers, where the new container needs it in another form: the
    vocabulary for a GGUF, files by name for a folder."""

    vocabulary: Vocabulary | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


class Conversion:
    """A model about to be written again. Refuses before anything is written what cannot work."""

    def __init__(
        self, store: Store, target: Path, mixture: str, overrides: Sequence[tuple[str, str]] = ()
    ) -> None:
        """WeightsError for formats that do not exist, or that the target cannot hold, and for a target
        that is there already."""
        spec = store.spec
        rows = text_tensors(spec) if isinstance(spec, ModelSpec) else drafter_tensors(spec)
        self._store, self._target, self._mixture = store, target, mixture
        chosen = mix_formats(rows, mixture, overrides)
        self.into_gguf = target.suffix == ".gguf"
        self._check_target(overrides)
        self._pieces = list(self._choose(rows, chosen))
        self.before_bytes = sum(piece.tensor.nbytes for piece in self._pieces)
        self.after_bytes = sum(piece.report().after_bytes for piece in self._pieces)

    @property
    def needs_vocabulary(self) -> bool:
        """Whether the vocabulary lies beside the source and must go into the target's one file."""
        return self.into_gguf and self._store.kind == "safetensors"

    @property
    def needs_tokenizer(self) -> bool:
        """Whether the vocabulary is inside the source and must become files beside the target."""
        return not self.into_gguf and self._store.kind == "gguf"

    @property
    def quantized_before(self) -> list[str]:
        """The formats of tensors that are rounded already and will be rounded or unpacked once more."""
        again = {p.tensor.parts[0].format.name for p in self._pieces if not p.is_copied}
        return sorted(name for name in again if get(name).quantized)

    def run(
        self,
        texts: Texts | None = None,
        importance: Importance | None = None,
        threads: int = 1,
        seen: Seen = lambda _: None,
    ) -> list[TensorReport]:
        """Write it. `importance` by tensor: how much each input column matters (engine/importance.py).

        `seen` hears how many source bytes were taken in, in the caller's thread; what it raises ends the
        work. WeightsError without room on the disk; nothing is left then.
        """
        texts = texts or Texts()
        self._check_room()
        with ThreadPoolExecutor(threads) as pool:
            work = _Work(pool, 2 * threads, importance or {}, seen)
            entries = [work.entry(piece) for piece in self._pieces]
            if self.into_gguf:
                self._write_gguf(entries, texts)
            else:
                self._write_folder(entries, texts)
        return [piece.report() for piece in self._pieces]

    # ------------------------------------------------------------------ what goes where

    def _check_target(self, overrides: Sequence[tuple[str, str]]) -> None:
        source, target, mixture = self._store.path, self._target, self._mixture
        if target.exists() and source.exists() and target.samefile(source):
            raise WeightsError(f"{target} is the source itself; give the new model another name")
        if target.exists() or target.is_symlink():
            raise WeightsError(f"{target} is there already; remove it first, or give another name")
        if not target.parent.is_dir():
            raise WeightsError(f"cannot write {target}: there is no folder {target.parent}; make it first")
        if target.suffix == ".safetensors":
            raise WeightsError(
                f"{target}: a safetensors model is a folder with config.json; name a folder, "
                f"such as {target.with_suffix('')}"
            )
        blocks = [name for name in (mixture, *(name for _, name in overrides)) if name not in PLAIN]
        if not self.into_gguf and blocks:
            raise WeightsError(
                f"a folder of safetensors holds {', '.join(PLAIN)}, and {blocks[0]} is none of them; "
                f"name a file, such as {target.name}.gguf"
            )

    def _choose(self, rows: Sequence[TensorSpec], chosen: Mapping[str, str]) -> Iterator[_Piece]:
        """What is written: all stored tensors where the container stays, else those the model needs."""
        tensors = self._store.tensors
        owner = {part.name: row for row in rows for part in tensors[row.name].parts}
        if self.into_gguf == (self._store.kind == "gguf"):
            for stored in self._store.source.tensors.values():
                row = owner.get(stored.name)
                tensor = Tensor(stored.name, stored.shape, [stored])
                yield _Piece(stored.name, tensor, self._format(row, stored.format, chosen), row)
            return
        for row in rows:
            plain = get("f32" if self.into_gguf else self._mixture)
            fmt = get("i32" if self.into_gguf else "i64") if row.integer else plain
            if row.may_quantize and not row.integer:
                fmt = get(chosen[row.name])
            yield _Piece(row.gguf[0][0] if self.into_gguf else hf_name(row), tensors[row.name], fmt, row)

    def _format(self, row: TensorSpec | None, now: Format, chosen: Mapping[str, str]) -> Format:
        """The format of a tensor in the same container. What the text forward does not read is copied."""
        if row is None or row.integer:
            return now
        if row.may_quantize:
            return get(chosen[row.name])
        return now if self.into_gguf else get(self._mixture)

    def _check_room(self) -> None:
        there = self._target.parent
        free = shutil.disk_usage(there).free
        if free < self.after_bytes + _SPARE_BYTES:
            raise WeightsError(
                f"there is no room for {self._target}: it takes {self.after_bytes / 1e9:.2f} GB, and {there} "
                f"has {free / 1e9:.2f} GB free; make room, choose a smaller format or another disk"
            )

    # ------------------------------------------------------------------ writing

    def _write_gguf(self, entries: list[Entry], texts: Texts) -> None:
        store = self._store
        ours: dict[str, Value] = {
            "general.file_type": MIXTURES[self._mixture].file_type,
            "general.quantization_version": 2,
        }
        if isinstance(store.source, GgufFile):
            kept = {
                key: Raw(data)
                for key, data in raw_metadata(store.source).items()
                if key not in _OWN_KEYS and not key.startswith("split.")
            }
            write_gguf(self._target, {**kept, **ours}, entries)
            return
        entries = [*entries, *rope_entries(store.spec)]
        ours |= to_metadata(store.sampling)
        keys = model_keys(store.spec, entries, texts.vocabulary, store.chat_template, ours)
        write_gguf(self._target, keys, entries)

    def _write_folder(self, entries: list[Entry], texts: Texts) -> None:
        """A folder that gets its name when all of it is there."""
        target = self._target
        part = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            part.mkdir()
            write_safetensors(part / "model.safetensors", entries, {"format": "pt"})
            for name, content in self._beside(texts).items():
                (part / name).write_bytes(content)
            part.rename(target)
        except OSError as error:
            raise WeightsError(f"cannot write {target}: {plain_os_error(error)}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _beside(self, texts: Texts) -> dict[str, bytes]:
        """The files beside the weights."""
        store = self._store
        dtype = _DTYPES[self._mixture]
        if isinstance(store.source, GgufFile):
            files = dict(texts.files)
            if store.chat_template is not None:
                files["chat_template.jinja"] = store.chat_template.encode()
            if store.sampling:
                files["generation_config.json"] = _json(to_generation_config(store.sampling))
            return {**files, "config.json": _json({**config_json(store.spec), "dtype": dtype})}
        folder = store.source.paths[0].parent
        files = {
            path.name: path.read_bytes()
            for path in sorted(folder.iterdir())
            if path.suffix in _COMPANIONS and path.name not in (INDEX_NAME, "gemstead.json")
        }
        config = read_object(folder / "config.json")
        for holder in (config, *(x for x in config.values() if isinstance(x, dict))):
            for key in ("dtype", "torch_dtype"):
                if key in holder:
                    holder[key] = dtype
        return {**files, "config.json": _json(config)}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


@dataclass(frozen=True)
class _Work:
    """Converts pieces a chunk at a time, in several threads, in order."""

    pool: ThreadPoolExecutor
    ahead: int
    importance: Importance
    seen: Seen

    def entry(self, piece: _Piece) -> Entry:
        """The entry whose chunks do the work."""
        tensor, fmt = piece.tensor, piece.format
        if fmt.name in ("i32", "i64") and not piece.is_copied:
            return entry_from_array(piece.name, tensor.int64(), fmt.name)
        chunks = self._copied if piece.is_copied else self._converted
        return Entry(piece.name, tensor.shape, fmt, lambda: chunks(piece))

    def _copied(self, piece: _Piece) -> Iterator[Bytes]:
        (part,) = piece.tensor.parts
        flat = part.raw().reshape(-1)
        for start in range(0, part.nbytes, _COPIED_BYTES):
            chunk = flat[start : start + _COPIED_BYTES]
            yield chunk
            part.file.release(part.start + start, len(chunk))
            self.seen(len(chunk))

    def _converted(self, piece: _Piece) -> Iterator[Bytes]:
        tensor = piece.tensor
        wanted = self.importance.get(piece.row.name) if piece.row is not None else None
        spans = tensor.spans()
        jobs = (lambda span=span: _convert(piece, span, wanted) for span in spans)
        results = in_order(self.pool, jobs, self.ahead)
        for span, (packed, squares, errors, largest) in zip(spans, results, strict=True):
            piece.squares += squares
            piece.error_squares += errors
            piece.largest_error = max(piece.largest_error, largest)
            yield packed
            self.seen(tensor.release(*span))


def _convert(piece: _Piece, span: tuple[int, int], importance: Floats | None) -> _Converted:
    """Packed bytes of these rows; squares of the values, squares and largest of the errors."""
    values = piece.tensor.float32(*span)
    weights = _EVEN if importance is None and piece.format.name in _SEARCHED else importance
    if importance is not None and importance.ndim == 2:  # of experts: [E, 1, w] beside [E, rows, w]
        weights = importance[span[0] : span[1], None, :]
    try:
        packed = piece.format.pack(values, weights)
    except WeightsError as error:
        raise WeightsError(f"{piece.name}: {error}") from error
    errors = piece.format.unpack(packed).reshape(-1) - values.reshape(-1)
    squares = float(np.dot(values.reshape(-1), values.reshape(-1)))
    return packed, squares, float(np.dot(errors, errors)), float(np.abs(errors).max(initial=0.0))
