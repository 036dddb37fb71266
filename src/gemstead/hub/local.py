"""The models on this machine, whoever put them there, and the one that a name means.

Reads only: nothing of another program is moved, changed or deleted. Order of trust for a name: what
gemstead fetched, its own folders, the Hugging Face cache, LM Studio, Ollama.
Neighbours: folders.py, examine.py, names.py.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gemstead.errors import HubError
from gemstead.hub import folders
from gemstead.hub.catalogue import ASKED_FOR, catalogue, words
from gemstead.hub.examine import Facts, examine, models_below
from gemstead.hub.manifest import NAME, Manifest, read_manifest
from gemstead.hub.names import Wanted, format_of, parse
from gemstead.weights.locate import is_mmproj

ORIGINS = ("gemstead", "folder", "Hugging Face", "LM Studio", "Ollama")
_MODEL_LAYER, _PROJECTOR_LAYER = (
    "application/vnd.ollama.image.model",
    "application/vnd.ollama.image.projector",
)
_MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class LocalModel:
    """One model on this disk. `manifest` is there exactly when gemstead put the model there."""

    name: str
    origin: str
    facts: Facts
    repo: str | None = None
    mmproj: Path | None = None
    manifest: Path | None = None

    @property
    def words(self) -> frozenset[str]:
        """The words it can be asked by: of its names, its format and its variant."""
        row = catalogue().by_repo(self.repo) if self.repo else None
        facts = self.facts
        text = f"{self.name} {self.repo or ''} {facts.path.name} {facts.variant or ''} {facts.format}"
        own = {catalogue().same_words.get(word, word) for word in words(text)} | (row.words if row else set())
        kind = {"gguf"} if self.facts.path.suffix == ".gguf" or self.origin == "Ollama" else {"safetensors"}
        drafter = {"assistant"} if self.facts.is_drafter else set()
        return frozenset(own | kind | drafter | ({"base"} if "base" in own else {"it"}))


def scan() -> list[LocalModel]:
    """Every Gemma 4 on this machine in the order of ORIGINS, each file once."""
    found: dict[Path, LocalModel] = {}
    for model in (*_own_folders(), *_hf_cache(), *_lm_studio(), *_ollama()):
        key = model.facts.path.resolve()
        known = found.get(key)
        if known is None or ORIGINS.index(model.origin) < ORIGINS.index(known.origin):
            found[key] = model
    return sorted(found.values(), key=lambda model: (ORIGINS.index(model.origin), model.name))


def resolve(name: str) -> LocalModel:
    """The model here that `name` means; HubError saying how to fetch it, or what is wrong with it.

    A name as `gemstead list` shows it means that model, whatever else it could be read as.
    """
    models = scan()
    listed = [model for model in models if model.name.lower() == name.lower()]
    found = listed[0] if len(listed) == 1 else find(parse(name), models)
    if found is None:
        raise HubError(
            f"the model {name!r} is not on this machine; gemstead pull {name} fetches it, "
            "gemstead list shows what is here"
        )
    if found.facts.fault is not None:
        raise HubError(f"the model {name!r} is not whole: {found.facts.fault}")
    return found


def find(wanted: Wanted, models: list[LocalModel] | None = None) -> LocalModel | None:
    """The best model here for `wanted`, None when there is none; HubError where two are equally good."""
    models = [model for model in (scan() if models is None else models) if _fits(model, wanted)]
    ranked = sorted(models, key=_rank)
    if not ranked:
        return None
    equals = [model for model in ranked if _rank(model) == _rank(ranked[0])]
    if len(equals) > 1:
        listed = "\n".join(f"  {model.facts.path}" for model in equals)
        raise HubError(f"{wanted.title} could be several models here; give one of the paths:\n{listed}")
    return ranked[0]


def _rank(model: LocalModel) -> tuple[bool, int, int]:
    """Whole models first, then the order of trust, then the catalogue's order."""
    repos = [row.repo for row in catalogue().rows]
    place = repos.index(model.repo) if model.repo in repos else len(repos)
    return model.facts.fault is not None, ORIGINS.index(model.origin), place


def _fits(model: LocalModel, wanted: Wanted) -> bool:
    if wanted.asked is not None and wanted.row is not None:
        row = catalogue().by_repo(model.repo) if model.repo else None
        variants = {model.facts.variant, row.variant if row else None}
        same = model.words & ASKED_FOR == wanted.asked & ASKED_FOR
        return wanted.row.variant in variants and same and wanted.asked <= model.words
    if model.repo is None or model.repo.lower() != wanted.repo.lower():
        return False
    if wanted.tag is None or model.facts.path.name.lower() == wanted.tag.lower().rpartition("/")[2]:
        return True
    return format_of(wanted.tag) == format_of(model.facts.path.name) and not wanted.tag.endswith(".gguf")


def _own_folders() -> Iterator[LocalModel]:
    for folder in folders.model_folders():
        for path in models_below(folder):
            facts = examine(path)
            if facts is None:
                continue
            home = path if path.is_dir() else path.parent
            manifest = _manifest(home / NAME)
            if manifest is not None and (home / manifest.opens).resolve() == path.resolve():
                yield LocalModel(
                    manifest.name, "gemstead", facts, manifest.repo, _mmproj_beside(path), home / NAME
                )
            else:
                name = path.relative_to(folder).as_posix().removesuffix(".gguf")
                yield LocalModel(name, "folder", facts, None, _mmproj_beside(path))


def _hf_cache() -> Iterator[LocalModel]:
    for home in _children(folders.hf_cache()):
        owner, _, repo_name = home.name.removeprefix("models--").partition("--")
        if not home.name.startswith("models--") or not repo_name:
            continue
        repo = f"{owner}/{repo_name}"
        pulled = {
            (home / "snapshots" / manifest.revision / manifest.opens).resolve(): (file, manifest)
            for file in _children(home / "gemstead")
            if (manifest := _manifest(file)) is not None and manifest.revision
        }
        for snapshot in _children(home / "snapshots"):
            for path in models_below(snapshot):
                facts = examine(path)
                if facts is None:
                    continue
                ours = pulled.get(path.resolve())
                name = ours[1].name if ours else repo + (f":{path.name}" if path.is_file() else "")
                model = LocalModel(
                    name, "gemstead" if ours else "Hugging Face", facts, repo, _mmproj_beside(path)
                )
                yield replace(model, manifest=ours[0]) if ours else model


def _lm_studio() -> Iterator[LocalModel]:
    for folder in folders.lm_studio():
        for path in models_below(folder):
            facts = examine(path)
            if facts is not None:
                parts = path.relative_to(folder).parts
                repo = "/".join(parts[:2]) if len(parts) > 2 or path.is_dir() else None
                yield LocalModel("/".join(parts), "LM Studio", facts, repo, _mmproj_beside(path))


def _ollama() -> Iterator[LocalModel]:
    for store in folders.ollama():
        manifests = store / "manifests"
        with contextlib.suppress(OSError):
            for file in sorted(path for path in manifests.rglob("*") if path.is_file()):
                layers = _layers(file)
                blob = _blob(store, layers.get(_MODEL_LAYER))
                facts = None if blob is None else examine(blob)
                if facts is not None:
                    parts = [p for p in file.relative_to(manifests).parts[1:] if p != "library"]
                    name = "/".join(parts[:-1]) + f":{parts[-1]}"
                    yield LocalModel(name, "Ollama", facts, None, _blob(store, layers.get(_PROJECTOR_LAYER)))


def _layers(file: Path) -> dict[str, str]:
    """Media type -> digest of an Ollama manifest; nothing for anything else."""
    try:
        raw = file.read_bytes() if file.stat().st_size <= _MAX_MANIFEST_BYTES else b"{}"
        layers: Any = json.loads(raw).get("layers", [])
        return {layer["mediaType"]: layer["digest"] for layer in layers}
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return {}


def _blob(store: Path, digest: Any) -> Path | None:
    """The file of a digest such as sha256:0123...; None when there is none."""
    if not isinstance(digest, str) or not digest.removeprefix("sha256:").isalnum():
        return None
    blobs = [store / "blobs" / digest.replace(":", mark) for mark in "-:"]
    return next((blob for blob in blobs if blob.is_file()), None)


def _manifest(path: Path) -> Manifest | None:
    try:
        return read_manifest(path)
    except HubError:
        return None


def _mmproj_beside(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    found = [entry for entry in _children(folder) if is_mmproj(entry.name) and entry.suffix == ".gguf"]
    return found[0] if found else None


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
