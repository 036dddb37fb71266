"""A home with nothing in it, a fake hub on loopback, and small random models as its content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gemstead.hub.fetch import Patience
from gemstead.hub.names import parse
from gemstead.hub.pull import plan, pull
from gemstead.hub.remote import Hub
from support.fake_hub import FakeHub, serving
from support.repositories import repositories

QUICK = Patience(tries=3, first_wait_s=0.01)


@pytest.fixture(scope="session")
def contents() -> dict[str, dict[str, bytes]]:
    """Repositories by name, and their files by name."""
    return repositories()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder; no store of any program is elsewhere."""
    home = tmp_path / "home"
    home.mkdir()
    for name in (
        *(
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "XDG_CACHE_HOME",
            "XDG_DATA_HOME",
            "HF_TOKEN",
            "HF_HUB_OFFLINE",
        ),
        *("GEMSTEAD_MODELS", "GEMSTEAD_OFFLINE", "OLLAMA_MODELS", "HF_ENDPOINT", "HF_HUB_DOWNLOAD_TIMEOUT"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    return home


@pytest.fixture
def hub(home: Path, contents: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:  # noqa: ARG001
    """A hub that holds the contents and is where HF_ENDPOINT leads."""
    with serving(FakeHub(repos={repo: dict(files) for repo, files in contents.items()})) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.url)
        yield fake


@pytest.fixture
def fetch(hub: FakeHub) -> Any:  # noqa: ARG001  it is what is asked
    """Pull a name with little patience, the way the command does; the plan and the manifest."""

    def run(name: str = "e2b", *, timeout_s: float = 5.0, text_only: bool = False) -> Any:
        client = Hub(timeout_s)
        planned = plan(client, parse(name), text_only=text_only, patience=QUICK)
        return SimpleNamespace(plan=planned, manifest=pull(client, planned, patience=QUICK))

    return run


def files_below(folder: Path) -> list[str]:
    """Every file below a folder, locks left out."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir() and ".locks" not in path.parts
    )


@pytest.fixture
def whole(home: Path) -> Any:
    """Assert that a store holds nothing half: no name without its content, no manifest with a wrong file."""

    def check(*, empty: bool = False) -> None:
        from gemstead.hub.local import scan
        from gemstead.hub.manifest import read_manifest, sha256_of
        from gemstead.weights.store import open_store

        names = files_below(home)
        assert not [name for name in names if name.endswith(".part")]  # of whole_file()
        for path in home.rglob("snapshots/*/*"):
            assert path.exists(), f"{path} leads nowhere"
        for path in home.rglob("gemstead/*.json"):
            manifest = read_manifest(path)
            folder = path.parents[1] / "snapshots" / (manifest.revision or "")
            assert all(sha256_of(folder / file.path) == file.sha256 for file in manifest.files)
        models = scan()
        for model in models:
            open_store(model.facts.path).close()
        assert bool(models) is not empty

    return check
