"""Which files of a repository make the model that was asked for: weights, mmproj, what describes it.

Pure: from a listing to a choice, or to a HubError that says what the repository holds instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gemstead.errors import HubError
from gemstead.hub.catalogue import words
from gemstead.hub.names import Wanted, format_of
from gemstead.weights.locate import is_mmproj

# Without a wish: the first of these that a GGUF repository has. Four bits first: what small machines hold.
PREFERRED = ("Q4_0", "Q4_K_M", "Q4_K_XL", "Q4_K_S", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16", "F32")
_PREFERRED_MMPROJ = ("F16", "BF16", "Q8_0", "F32")
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")
# What a safetensors folder needs beside its weights.
_BESIDE = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|"
    r"chat_template\.jinja|(pre)?processor_config\.json|model\.safetensors\.index\.json"
)
_OTHER_WEIGHTS = (
    ".litertlm", ".task", ".tflite", ".bin", ".pth", ".pt", ".ckpt", ".pkl", ".onnx", ".h5", ".keras", ".npz"
)  # fmt: skip


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository: `sha256` is the hub's hash of a large one, `git_sha1` of a small one."""

    path: str
    bytes: int
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True)
class Choice:
    """The files to fetch, each with its role; `opens` is what is opened afterwards ("." for the folder)."""

    opens: str
    format: str
    files: tuple[tuple[RemoteFile, str], ...]

    @property
    def total_bytes(self) -> int:
        """The size of all of them."""
        return sum(file.bytes for file, _ in self.files)


def choose(listing: list[RemoteFile], wanted: Wanted, *, text_only: bool = False) -> Choice:
    """The files of `listing` that `wanted` asks for; text_only leaves the mmproj out."""
    sets = _gguf_sets(listing)
    names = {file.path for file in listing}
    whole = "config.json" in names and any(name.endswith(".safetensors") for name in names)
    if sets and (wanted.tag or not whole or (wanted.row is not None and wanted.row.kind == "gguf")):
        first = _which(sets, wanted)
        files = [(file, "weights") for file in sets[first]]
        mmproj = None if text_only else _mmproj(listing, wanted)
        files += [(mmproj, "mmproj")] if mmproj else []
        return Choice(first, format_of(first) or "GGUF", tuple(files))
    if whole and (wanted.tag is None or wanted.tag.upper() in ("BF16", "SAFETENSORS")):
        return _folder(listing)
    raise HubError(f"{wanted.repo} holds {_instead(listing, wanted.tag)}")


def _gguf_sets(listing: list[RemoteFile]) -> dict[str, list[RemoteFile]]:
    """First file -> all files of each GGUF model; what drafts or sees for another is none."""
    sets: dict[str, list[RemoteFile]] = {}
    for file in sorted(listing, key=lambda file: file.path):
        if file.path.lower().endswith(".gguf") and not is_mmproj(file.path):
            stem = _PART.sub("", file.path)
            first = next(
                (key for key in sets if _PART.search(file.path) and _PART.sub("", key) == stem), None
            )
            sets.setdefault(first or file.path, []).append(file)
    for first, files in sets.items():
        match = _PART.search(first)
        if match and int(match[1]) != len(files):
            raise HubError(f"of the {int(match[1])} parts of {first} the repository holds only {len(files)}")
    return sets


def _which(sets: dict[str, list[RemoteFile]], wanted: Wanted) -> str:
    """The first file of the set that is meant."""
    if wanted.tag is not None:
        tag = wanted.tag.lower()
        named = [first for first in sets if tag in (first.lower(), first.lower().rpartition("/")[2])]
        found = named or [first for first in sets if set(words(tag)) <= set(words(first))]
        plain = [first for first in found if "ud" not in words(first) or "ud" in words(tag)]
        found = plain or found
    elif wanted.row is not None and wanted.row.weights in sets:
        return wanted.row.weights
    elif len(sets) == 1:
        found = list(sets)
    else:
        formats = [format_of(first) for first in sets]
        best = next((name for name in PREFERRED if name in formats), None)
        found = [first for first, name in zip(sets, formats, strict=True) if name == best]
    if len(found) == 1:
        return found[0]
    choices = ", ".join(sorted(format_of(first) or first for first in sets))
    if not found:
        raise HubError(f"{wanted.repo} holds no {wanted.tag}; it holds {choices}")
    raise HubError(
        f"{wanted.repo} holds several files that could be meant: {', '.join(found)}; "
        f"name one, as in {wanted.repo}:{found[0]}"
    )


def _mmproj(listing: list[RemoteFile], wanted: Wanted) -> RemoteFile | None:
    found = [file for file in listing if is_mmproj(file.path) and file.path.endswith(".gguf")]
    if wanted.row is not None:
        found = [file for file in found if file.path == wanted.row.mmproj] or found
    order = {name: place for place, name in enumerate(_PREFERRED_MMPROJ)}
    return min(found, key=lambda file: (order.get(format_of(file.path) or "", 9), file.path), default=None)


def _folder(listing: list[RemoteFile]) -> Choice:
    top = [file for file in listing if "/" not in file.path]
    weights = [file for file in top if re.fullmatch(r"model.*\.safetensors", file.path)]
    weights = weights or [file for file in top if file.path.endswith(".safetensors")]
    beside = [file for file in top if _BESIDE.fullmatch(file.path)]
    files = [(file, "weights") for file in weights] + [(file, "other") for file in beside]
    return Choice(".", "safetensors", tuple(files))


def _instead(listing: list[RemoteFile], tag: str | None) -> str:
    """What a repository without the wanted files holds, and what to do."""
    names = [file.path for file in listing]
    others = sorted({suffix for suffix in _OTHER_WEIGHTS if any(name.endswith(suffix) for name in names)})
    use = "use a repository with GGUF or safetensors files, such as those that gemstead pull e2b names"
    if any(is_mmproj(name) for name in names):
        return f"only the image and sound side of a model (mmproj), not its text side; {use}"
    if "adapter_config.json" in names:
        return f"a LoRA adapter, not a model; {use}"
    if tag and any(name.endswith(".safetensors") for name in names):
        return f"no GGUF files, so there is no {tag} in it; leave :{tag} out to fetch the safetensors"
    if others:
        return f"weights in containers gemstead does not read ({', '.join(others)}); {use}"
    return f"no weights of a model; {use}"
