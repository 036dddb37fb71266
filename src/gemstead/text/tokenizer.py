"""Gemma's tokenizer: text to token ids and back, from a GGUF vocabulary or a tokenizer.json.

A Cutter does the merging: the native core's where there is one (a tenth of a second for Gemma's vocabulary),
else the package `tokenizers`. Control tokens are kept out of its reach, so no text can ever turn into one by
accident; they are matched here, and only when the caller asks.
Refuses vocabularies that could lose text (no byte fallback) and lists every fault at once.
Neighbours: template.py encodes prompts with it, parser.py reads its ids, weights supply vocabularies.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from gemstead.errors import ConfigError, InputError
from gemstead.text.control import CONTROL_TEXTS, ControlIds

SPACE = "▁"  # U+2581 stands for the ASCII space inside pieces
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # GGUF token types
SPECIAL_TYPES = (UNKNOWN, CONTROL, USER_DEFINED)
MAX_TOKENS, MAX_MERGES, MAX_PIECE_CHARS = 1 << 21, 1 << 22, 4096  # 8x Gemma's own, against hostile files
MAX_JSON_BYTES = 64 << 20  # Gemma's has 32 MB
MAX_JSON_VALUES = 1 << 22  # 2x Gemma's own
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_SHOWN_FAULTS = 12
_CONTROLS = frozenset(CONTROL_TEXTS.values())


class Cutter(Protocol):
    """A vocabulary that can be cut by: `pieces[i]` of GGUF type `types[i]`, and how text becomes ids."""

    pieces: Sequence[str]
    types: bytes

    def encode(self, text: str) -> list[int]:
        """Ids of valid text, none of them special."""
        ...

    def find(self, piece: str) -> int | None:
        """The id of a piece, special ones included."""
        ...


# Makes a Cutter from tokens, types, merges and the control tokens' texts; None for a vocabulary with a fault.
FastCutter = Callable[[Sequence[str], Sequence[int], Sequence[Any], Collection[str]], Cutter | None]


class PackageCutter:
    """The Cutter of the package `tokenizers`: seconds to make, and the one that says all that is wrong."""

    def __init__(
        self, pieces: Sequence[str], types: Sequence[int], merges: Sequence[tuple[str, str]]
    ) -> None:
        from tokenizers import Tokenizer as Core
        from tokenizers import models, normalizers

        faults = _check(pieces, types, merges)
        if faults:
            raise _config_error(faults)
        self.pieces, self.types = pieces, bytes(types)
        self._ids = {p: i for i, p in enumerate(pieces) if p}
        plain = {p: i for p, i in self._ids.items() if types[i] not in SPECIAL_TYPES}
        try:
            # No cache of words: Gemma's "words" are whole texts, and ten thousand of them would be kept.
            core = Core(models.BPE(plain, list(merges), byte_fallback=True, cache_capacity=0))
        except Exception as error:  # the package raises bare Exception for a merge out of its vocabulary
            raise ConfigError(f"the vocabulary's merges do not fit its tokens: {error}") from error
        core.normalizer = normalizers.Replace(" ", SPACE)
        self._core = core

    def encode(self, text: str) -> list[int]:
        """See Cutter."""
        ids: list[int] = self._core.encode(text, add_special_tokens=False).ids
        return ids

    def find(self, piece: str) -> int | None:
        """See Cutter."""
        return self._ids.get(piece)


class Tokenizer:
    """Text to ids and back for one vocabulary. Immutable, safe to share between threads."""

    def __init__(self, cutter: Cutter) -> None:
        self._cutter, self._pieces, self._types = cutter, cutter.pieces, cutter.types
        special = [i for kind in SPECIAL_TYPES for i in _places(self._types, kind)]
        self._special_ids = {piece: i for i in sorted(special) if (piece := self._pieces[i])}
        self.control = ControlIds.of(self._special_ids)

    @classmethod
    def from_vocabulary(
        cls,
        tokens: Sequence[str | bytes],
        types: Sequence[int],
        merges: Sequence[str | tuple[str, str]],
        fast: FastCutter | None = None,
    ) -> Tokenizer:
        """Build from the three arrays of a GGUF file: pieces, token types and "left right" merges.

        Raises ConfigError listing every fault that would make text unencodable or forgeable.
        """
        _check_sizes(len(tokens), len(merges))
        if fast is not None and (cutter := fast(tokens, types, merges, _CONTROLS)) is not None:  # type: ignore[arg-type]
            return cls(cutter)
        faults: list[str] = []
        pieces = [
            token if type(token) is str and len(token) <= MAX_PIECE_CHARS else _as_text(i, token, faults)
            for i, token in enumerate(tokens)
        ]
        pairs = _as_pairs(merges, faults)
        if faults:
            raise _config_error(faults)
        kinds = [int(t) for t in types]
        marked_plain = [
            i for i, p in enumerate(pieces[: len(kinds)]) if p in _CONTROLS and kinds[i] in (NORMAL, UNUSED)
        ]
        for i in marked_plain:  # GGUF files mark some of them as plain
            kinds[i] = CONTROL
        return cls(PackageCutter(pieces, kinds, pairs))

    @classmethod
    def from_json(cls, path: str | Path, fast: FastCutter | None = None) -> Tokenizer:
        """Build from a Hugging Face tokenizer.json of Gemma's kind (BPE, byte fallback, '▁' for space)."""
        return cls.from_vocabulary(*read_tokenizer_json(Path(path)), fast)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones and holes included."""
        return len(self._pieces)

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of `text`, without a BOS.

        specials=False is for anything a person, tool or document wrote: no special token can come
        out, whatever the text spells. specials=True reads spelled-out special tokens as themselves.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"cannot encode text: lone surrogate {text[error.start]!r} at character {error.start}; "
                "send valid Unicode"
            ) from None
        if not specials:
            return self._cutter.encode(text)
        ids: list[int] = []
        for part in self._special_pattern.split(text):
            special = self._special_ids.get(part)
            if special is None:
                ids += self._cutter.encode(part)
            else:
                ids.append(special)
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of `ids`; bytes that form no UTF-8 become U+FFFD. skip_special leaves special tokens out."""
        data = b"".join(self.token_bytes(i) for i in ids if not (skip_special and self.is_special(i)))
        return data.decode("utf-8", errors="replace")

    def stream(self, *, skip_special: bool = False) -> Detokenizer:
        """A decoder fed one id at a time; its pieces joined equal decode() of all ids."""
        return Detokenizer(self, skip_special)

    def id_of(self, piece: str) -> int | None:
        """The id of a piece spelled as in the vocabulary ('▁' for space), special tokens included."""
        return self._cutter.find(piece)

    def piece(self, token_id: int) -> str:
        """The vocabulary's own spelling of an id ('▁' for space, '<0x0A>' for a byte)."""
        if not 0 <= token_id < len(self._pieces):
            raise InputError(
                f"token id {token_id} is not in the vocabulary; allowed is 0 to {len(self._pieces) - 1}"
            )
        return self._pieces[token_id]

    def is_special(self, token_id: int) -> bool:
        """Whether the id is a control or user-defined token, one that plain text never yields."""
        return 0 <= token_id < len(self._types) and self._types[token_id] in SPECIAL_TYPES

    def is_plain(self, token_id: int) -> bool:
        """Whether the id stands for text: a piece, a byte, or a user-defined token that controls nothing."""
        if not 0 <= token_id < len(self._types):
            return False
        kind = self._types[token_id]
        return kind in (NORMAL, BYTE) or (kind == USER_DEFINED and self._pieces[token_id] not in _CONTROLS)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes an id adds to the output; for a special token, its spelling."""
        piece = self.piece(token_id)
        kind = self._types[token_id]
        if kind == BYTE:
            return bytes((int(piece[3:5], 16),))
        return (piece if kind in SPECIAL_TYPES else piece.replace(SPACE, " ")).encode("utf-8")

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self._special_ids, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")" if longest_first else "(?!)")


class Detokenizer:
    """Ids in, text out, one at a time; holds back the bytes of an unfinished character."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """The text that became certain with this id; often empty inside a multi-byte character."""
        if self._skip_special and self._tokenizer.is_special(token_id):
            return ""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """U+FFFD for a character that never got its last bytes, else nothing; ready for reuse after."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest


def _places(types: bytes, kind: int) -> Iterator[int]:
    """Where a type stands."""
    at = types.find(kind)
    while at >= 0:
        yield at
        at = types.find(kind, at + 1)


def _config_error(faults: Sequence[str]) -> ConfigError:
    shown = list(faults[:_SHOWN_FAULTS])
    if len(faults) > len(shown):
        shown.append(f"and {len(faults) - len(shown)} more")
    return ConfigError("cannot build a tokenizer from this vocabulary: " + "; ".join(shown))


def _check_sizes(n_tokens: int, n_merges: int) -> None:
    if not 0 < n_tokens <= MAX_TOKENS or n_merges > MAX_MERGES:
        raise ConfigError(
            f"cannot build a tokenizer from {n_tokens} tokens and {n_merges} merges; "
            f"allowed are 1 to {MAX_TOKENS} tokens and up to {MAX_MERGES} merges"
        )


def _as_text(index: int, token: str | bytes, faults: list[str]) -> str:
    if isinstance(token, bytes):
        try:
            token = token.decode("utf-8")
        except UnicodeDecodeError:
            faults.append(f"token {index} is not UTF-8: {token[:32]!r}")
            return ""
    if len(token) > MAX_PIECE_CHARS:
        faults.append(f"token {index} has {len(token)} characters; allowed are {MAX_PIECE_CHARS}")
    return token


def _as_pairs(merges: Sequence[object], faults: list[str]) -> list[tuple[str, str]]:
    pairs = [tuple(m.split(" ")) if type(m) is str else _as_tuple(m) for m in merges]
    wrong = [i for i, pair in enumerate(pairs) if len(pair) != 2]
    faults += [f"merge {i} is not two pieces with a space between: {merges[i]!r:.60}" for i in wrong]
    return pairs  # type: ignore[return-value]  # lengths are checked above; the caller raises on faults


def _as_tuple(merge: object) -> tuple[str, ...]:
    if isinstance(merge, (list, tuple)) and all(isinstance(part, str) for part in merge):
        return tuple(merge)
    return ()


def _check(pieces: Sequence[str], types: Sequence[int], merges: Sequence[tuple[str, str]]) -> list[str]:
    """All faults of a vocabulary that would lose text or let text become a control token."""
    if len(pieces) != len(types):
        return [f"{len(pieces)} tokens but {len(types)} token types"]
    faults = [f"token {i} has type {t}; known are 1 to 6" for i, t in enumerate(types) if not 1 <= t <= 6]
    if faults:
        return faults
    faults += _duplicates(pieces)
    bytes_seen = set()
    for i in (i for i, kind in enumerate(types) if kind == BYTE):
        match = _BYTE_PIECE.fullmatch(pieces[i])
        if match:
            bytes_seen.add(int(match[1], 16))
        else:
            faults.append(f"byte token {i} is spelled {pieces[i]!r}; expected <0x00> to <0xFF>")
    missing = [b for b in range(256) if b not in bytes_seen]
    if missing:
        faults.append(
            f"no byte fallback for {len(missing)} of 256 bytes (first missing: <0x{missing[0]:02X}>), "
            "so some text could not be encoded"
        )
    normal = {p for p, t in zip(pieces, types, strict=True) if p and t in (NORMAL, UNUSED)}
    if SPACE not in normal:
        faults.append("no piece '▁' for the space")
    # half a million merges: the common case must be a comprehension
    wrong = [
        i for i, (a, b) in enumerate(merges) if a + b not in normal or a not in normal or b not in normal
    ]
    for i in wrong:
        left, right = merges[i]
        faults.append(
            f"merge {i} ({left!r:.40} + {right!r:.40}) joins or yields a piece that is not a normal token"
        )
    return faults


def _duplicates(pieces: Sequence[str]) -> list[str]:
    filled = [p for p in pieces if p]
    if len(set(filled)) == len(filled):
        return []
    first: dict[str, int] = {}
    return [
        f"tokens {first[p]} and {i} are both {p!r:.40}"
        for i, p in enumerate(pieces)
        if p and first.setdefault(p, i) != i
    ]


def read_tokenizer_json(path: Path) -> tuple[list[str], list[int], list[tuple[str, str]]]:
    """Pieces, GGUF token types and merges of a tokenizer.json, not yet checked against each other."""
    try:
        if not path.is_file() and path.exists():  # a pipe would be waited for
            raise ConfigError(f"cannot read {path}: it is a folder or a device, not a regular file")
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise ConfigError(f"cannot read {path}: {size} bytes; a tokenizer.json may have {MAX_JSON_BYTES}")
        raw = path.read_bytes()
        if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
            raise ConfigError(f"cannot read {path}: it holds more than {MAX_JSON_VALUES} values")
        data = json.loads(raw)
    except OSError as error:
        raise ConfigError(f"cannot read the tokenizer {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: not JSON ({error})") from error
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise ConfigError(f"cannot use {path}: tokenizer model {kind!r:.80}; Gemma's is 'BPE'")
    vocab, merges = model.get("vocab"), model.get("merges")
    added = data.get("added_tokens", [])
    if not isinstance(vocab, dict) or not isinstance(merges, list) or not isinstance(added, list):
        raise ConfigError(
            f"cannot use {path}: model.vocab, model.merges or added_tokens is missing or malformed"
        )
    if not _replaces_space(data.get("normalizer")):
        raise ConfigError(
            f"cannot use {path}: normalizer {data.get('normalizer')!r:.120}; Gemma's turns ' ' into '▁'"
        )
    _check_sizes(len(vocab), len(merges))
    pieces, types = _place(path, vocab, added)
    return pieces, types, merges


def _replaces_space(normalizer: object) -> bool:
    if not isinstance(normalizer, dict):
        return False
    if normalizer.get("type") == "Sequence":
        parts = normalizer.get("normalizers")
        return isinstance(parts, list) and len(parts) == 1 and _replaces_space(parts[0])
    wanted = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    return normalizer == wanted


def _place(path: Path, vocab: dict[str, int], added: list[object]) -> tuple[list[str], list[int]]:
    """Pieces and types by id from tokenizer.json's vocabulary and added tokens; holes are unused."""
    ids = dict(vocab)
    special = set()
    for entry in added:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise ConfigError(f"cannot use {path}: malformed added token {entry!r:.80}")
        ids[entry["content"]] = entry.get("id", -1)
        if entry.get("special") is True:
            special.add(entry["content"])
    special |= set(CONTROL_TEXTS.values()) & ids.keys()
    try:
        "".join(ids).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"cannot use {path}: a piece holds the lone surrogate {error.object[error.start]!r}"
        ) from None
    wrong = [p for p, i in ids.items() if type(i) is not int or not 0 <= i < MAX_TOKENS]
    if wrong or len(set(ids.values())) != len(ids):
        what = f"id of {wrong[0]!r:.40} is {ids[wrong[0]]!r:.40}" if wrong else "two pieces share an id"
        raise ConfigError(
            f"cannot use {path}: {what}; ids must be distinct integers from 0 to {MAX_TOKENS - 1}"
        )
    pieces = [""] * (max(ids.values()) + 1)
    types = [UNUSED] * len(pieces)
    for piece, i in ids.items():
        pieces[i] = piece
        types[i] = CONTROL if piece in special else BYTE if _BYTE_PIECE.fullmatch(piece) else NORMAL
    return pieces, types
