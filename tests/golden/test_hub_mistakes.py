"""The commonest mistakes around models, and what gemstead says about each, word for word.

`just golden` writes the file again; the diff is the review. Addresses and temporary folders are replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import gemstead.hub.pull
from gemstead.cli.main import main
from gemstead.spec.variants import VARIANTS
from support.fake_hub import FakeHub, serving
from support.repositories import E2B, MMPROJ, WEIGHTS, repositories
from support.weight_files import save_gguf

GOLDEN = Path(__file__).parent / "cli/hub-mistakes.txt"


class World:
    """A hub, a folder, and the commands that were tried."""

    def __init__(self, hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hub, self.folder, self.patch = hub, folder, monkeypatch

    def file(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def nothing(_world: World) -> None:
    """The world as it is."""


def wrong_bytes(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def no_room(world: World) -> None:
    class Usage:
        free = 1_000_000

    world.patch.setattr(gemstead.hub.pull.shutil, "disk_usage", lambda _: Usage)


def split(world: World) -> None:
    save_gguf(world.folder / "m-00001-of-00002.gguf", VARIANTS["tiny-e2b"], "q8_0")


def pieces_of(world: World, names: dict[str, bytes]) -> None:
    world.hub.repos["someone/odd"] = names


RAW = repositories
MISTAKES: list[tuple[str, Callable[[World], None], list[str]]] = [
    ("a model that is not here", nothing, ["run", "e2b", "hi"]),
    ("a slip of the finger", nothing, ["pull", "gemma4:e2b-it-qta"]),
    ("a name that is several models", nothing, ["pull", "gemma4"]),
    ("a name of nothing", nothing, ["pull", "llama"]),
    ("no such repository", nothing, ["pull", "google/gemma-4-E9B-it"]),
    ("offline", nothing, ["pull", "--offline", "e2b"]),
    ("no network", lambda w: w.patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9"), ["pull", "e2b"]),
    ("no room", no_room, ["pull", "e2b"]),
    ("a gated repository", lambda w: setattr(w.hub, "gated", True), ["pull", "e2b"]),
    (
        "a wrong token",
        lambda w: (setattr(w.hub, "token", "x"), w.patch.setenv("HF_TOKEN", "y")),
        ["pull", "e2b"],
    ),
    (
        "too many requests",
        lambda w: setattr(w.hub, "listing_statuses", [(429, {"Retry-After": "600"})]),
        ["pull", "e2b"],
    ),
    ("a wrong hash", lambda w: setattr(w.hub, "wrong", wrong_bytes), ["pull", "e2b", "--text-only"]),
    ("a format that is not there", nothing, ["pull", "someone/several-GGUF:Q2_K"]),
    ("a repository of LiteRT", nothing, ["pull", "someone/litert"]),
    (
        "a repository of pickles",
        lambda w: pieces_of(w, {"model.pth": b"x", "x.ckpt": b"x"}),
        ["pull", "someone/odd"],
    ),
    ("a repository of an mmproj alone", lambda w: pieces_of(w, {MMPROJ: b"x"}), ["pull", "someone/odd"]),
    ("a LiteRT file", lambda w: w.file("m.litertlm", b"LITERTLM" + bytes(64)), ["show", "m.litertlm"]),
    ("a pickle", lambda w: w.file("m.pth", b"PK\x03\x04" + bytes(64)), ["show", "m.pth"]),
    ("a checkpoint", lambda w: w.file("m.ckpt", b"\x80\x02" + bytes(64)), ["show", "m.ckpt"]),
    (
        "a Gemma 3",
        lambda w: w.file("g.gguf", RAW()[E2B][WEIGHTS].replace(b"gemma4", b"gemma3")),
        ["show", "g.gguf"],
    ),
    ("an mmproj alone", lambda w: w.file("p.gguf", as_clip(RAW()[E2B][WEIGHTS])), ["show", "p.gguf"]),
    ("a part of a split file missing", split, ["show", "m-00001-of-00002.gguf"]),
    (
        "a download that was cut short",
        lambda w: w.file("c.gguf", RAW()[E2B][WEIGHTS][:100_000]),
        ["show", "c.gguf"],
    ),
    (
        "a web page in place of a model",
        lambda w: w.file("w.gguf", b"<!DOCTYPE html>" + bytes(64)),
        ["show", "w.gguf"],
    ),
    (
        "a pointer in place of a model",
        lambda w: w.file("l.gguf", b"version https://git-lfs"),
        ["show", "l.gguf"],
    ),
    ("not enough memory", nothing, ["run", "--memory", "1kB", "pebble", "hi"]),
    ("a stick without models", lambda w: (w.folder / "stick").mkdir(), ["carry", "--from", "stick"]),
    ("removing what is not there", nothing, ["rm", "e2b", "--yes"]),
]


def as_clip(raw: bytes) -> bytes:
    """The file with the architecture of an mmproj, of the same length."""
    at = raw.index(b"gemma4", raw.index(b"general.architecture"))
    return raw[: at - 8] + (4).to_bytes(8, "little") + b"clip" + raw[at + 6 :] + b"\0\0"


@pytest.fixture
def said(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """What a command says in a world of its own, with what differs from run to run replaced."""
    for name in [name for name in os.environ if name.startswith(("HF_", "GEMSTEAD_", "OLLAMA", "XDG"))]:
        if name != "GEMSTEAD_GOLDEN":
            monkeypatch.delenv(name)

    def run(title: str, prepare: Callable[[World], None], args: list[str]) -> str:
        folder = tmp_path / re.sub(r"\W", "-", title)
        folder.mkdir()
        with monkeypatch.context() as patch, serving() as hub:
            hub.repos = {name: dict(files) for name, files in repositories().items()}
            patch.chdir(folder)
            patch.setenv("HOME", str(folder))
            patch.setenv("HF_ENDPOINT", hub.url)
            patch.setattr(gemstead.hub.pull.Patience.__init__, "__defaults__", (1, 0.0))
            prepare(World(hub, folder, patch))
            code = main(args)
            shown = capsys.readouterr()
            text = (shown.out + shown.err).replace(hub.url, "https://hub").replace(str(folder), "~")
            text = re.sub(r"[0-9a-f]{64}", "<hash>", text)
            text = re.sub(r"(?m)^[\d.]+ \w+ of .*\n", "", text)  # how far it was when somebody looked
        assert code == 1, text
        assert "Traceback" not in text
        shown_args = " ".join(f'"{arg}"' if " " in arg else arg for arg in ["gemstead", *args])
        return f"# {title}\n$ {shown_args}\n{text}(exit {code})\n"

    return run


def test_mistakes(said):
    text = "\n".join(said(*mistake) for mistake in MISTAKES)
    if os.environ.get("GEMSTEAD_GOLDEN") == "write":
        GOLDEN.write_text(text, encoding="utf-8")
    expected = GOLDEN.read_text(encoding="utf-8") if GOLDEN.exists() else ""
    assert text == expected, f"{GOLDEN.name} differs; if the new text is better, run: just golden"
