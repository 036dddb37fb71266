"""Where models lie on this machine: gemstead's own folder, the Hugging Face cache, LM Studio, Ollama.

Reads environment variables and nothing else. Whatever is not gemstead's own is only ever read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gemstead.errors import HubError

_YES = ("1", "on", "yes", "true")


def is_offline() -> bool:
    """Whether GEMSTEAD_OFFLINE (set by --offline too) or HF_HUB_OFFLINE forbids asking any network."""
    asked = (os.environ.get(name, "").lower() for name in ("GEMSTEAD_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value in _YES for value in asked)


def require_network(attempt: str) -> None:
    """HubError when `attempt` needs a network and none may be asked."""
    if is_offline():
        raise HubError(
            f"{attempt} needs the network, and --offline (or GEMSTEAD_OFFLINE or HF_HUB_OFFLINE) forbids it; "
            "leave that out, or bring the model on a USB stick with gemstead carry"
        )


def hf_cache() -> Path:
    """The Hugging Face cache, found as huggingface_hub finds it."""
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if chosen:
        return _path(chosen)
    home = os.environ.get("HF_HOME")
    if home:
        return _path(home) / "hub"
    return _path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface/hub"


def model_folders() -> tuple[Path, ...]:
    """gemstead's own folders, the first is the one it writes to: GEMSTEAD_MODELS (several are parted by
    colons, as in PATH), else `models` in the user's data folder."""
    chosen = [part for part in os.environ.get("GEMSTEAD_MODELS", "").split(os.pathsep) if part.strip()]
    if chosen:
        return tuple(_path(part) for part in chosen)
    if sys.platform == "darwin":
        return (_path("~/Library/Application Support/gemstead/models"),)
    return (_path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "gemstead/models",)


def lm_studio() -> tuple[Path, ...]:
    """LM Studio's folders, its present and its earlier one."""
    return (_path("~/.lmstudio/models"), _path("~/.cache/lm-studio/models"))


def ollama() -> tuple[Path, ...]:
    """Ollama's stores: OLLAMA_MODELS, else a user's own and that of the Linux service."""
    chosen = os.environ.get("OLLAMA_MODELS")
    if chosen:
        return (_path(chosen),)
    return (_path("~/.ollama/models"), Path("/usr/share/ollama/.ollama/models"))


def _path(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()
