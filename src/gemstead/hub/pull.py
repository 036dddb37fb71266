"""Fetches a model by name: lists, chooses, checks the room, brings every file, only then lets it open.

Files gather in the Hugging Face cache under their hashes; the names by which a model opens, and gemstead's
manifest, appear after the last hash was right. Neighbours: remote.py, choose.py, fetch.py, manifest.py.
"""

from __future__ import annotations

import datetime
import queue
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from gemstead.errors import HubError, WeightsError
from gemstead.hub.choose import Choice, RemoteFile, choose
from gemstead.hub.fetch import Cancelled, Patience, Place, Progress, disk_error, fetch
from gemstead.hub.folders import hf_cache
from gemstead.hub.manifest import FileRecord, Manifest, inside, read_manifest, slug
from gemstead.hub.names import Wanted
from gemstead.hub.remote import Hub, Listing, Temporary
from gemstead.weights.writing import whole_file

AT_ONCE = 4
NOTE_SUFFIX = ".pulling"
SPARE_BYTES = 64 << 20  # left free beside the model
_TICK_S = 0.2
# The names that make a folder or a split file openable are given last.
_LAST = ("config.json", "model.safetensors.index.json")

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Plan:
    """What a pull will do: from where, which files, and what of them is on the disk already."""

    wanted: Wanted
    listing: Listing
    choice: Choice
    home: Path
    missing_bytes: int
    places: dict[str, Place] = field(repr=False)

    @property
    def name(self) -> str:
        """The name the model goes by afterwards: the catalogue's own, else its repository and file."""
        row = self.wanted.row
        if row is not None and (row.weights == self.choice.opens or row.kind == "safetensors"):
            return row.name
        return self.listing.repo + ("" if self.choice.opens == "." else f":{self.choice.opens}")

    @property
    def manifest_path(self) -> Path:
        """Where the manifest stands afterwards."""
        return (
            self.home
            / "gemstead"
            / f"{slug(self.choice.opens if self.choice.opens != '.' else 'folder')}.json"
        )

    @property
    def opens(self) -> Path:
        """The file or folder to open afterwards."""
        return self.home / "snapshots" / self.listing.commit / self.choice.opens


def plan(hub: Hub, wanted: Wanted, *, text_only: bool = False, patience: Patience | None = None) -> Plan:
    """Ask the hub and look at the disk; HubError when the name, the files or the room are not right."""
    listing = _listing(hub, wanted, patience or Patience())
    choice = choose(listing.files, wanted, text_only=text_only)
    cache = hf_cache()
    folder = "models--" + listing.repo.replace("/", "--")
    home = cache / folder
    places: dict[str, Place] = {}
    missing = 0
    for file, _ in choice.files:
        path = inside(file.path, listing.repo)
        name = file.sha256 or file.git_sha1 or ""
        if not name.isalnum():
            raise HubError(f"the hub gives no hash for {file.path}, so that it cannot be checked")
        pointer = home / "snapshots" / listing.commit / path
        place = Place(home / "blobs" / name, cache / ".locks" / folder / f"{name}.lock", pointer)
        places[file.path] = place
        if place.present is None:
            part = place.part.stat().st_size if place.part.exists() else 0
            missing += max(0, file.bytes - part)
    return Plan(wanted, listing, choice, home, missing, places)


def _listing(hub: Hub, wanted: Wanted, patience: Patience) -> Listing:
    """The listing, tried again while the trouble may pass."""
    for number in range(patience.tries):
        try:
            return hub.listing(wanted.repo, wanted.revision)
        except Temporary as error:
            wait_s = patience.pause_s(error, number)
            if number == patience.tries - 1 or wait_s > 60 or error.is_nameless:
                later = f"; it asks to wait {wait_s:.0f} seconds" if error.wait_s else ""
                raise HubError(f"cannot ask for {wanted.title}: {error}{later}") from error
            threading.Event().wait(wait_s)
    raise HubError(f"cannot ask for {wanted.title}")


def present(plan: Plan) -> Manifest | None:
    """The manifest of a model that an earlier pull finished, with all its files still there."""
    try:
        manifest = read_manifest(plan.manifest_path)
    except HubError:
        return None
    snapshot = plan.home / "snapshots" / (manifest.revision or "")
    whole = all(_size(snapshot / file.path) == file.bytes for file in manifest.files)
    chosen = {file.path for file, _ in plan.choice.files}
    same = manifest.revision == plan.listing.commit and chosen <= {file.path for file in manifest.files}
    return manifest if whole and same else None


def pull(hub: Hub, plan: Plan, report: Report = lambda _: None, patience: Patience | None = None) -> Manifest:
    """Carry the plan out. `report` is called five times a second from this thread; Ctrl-C stops it."""
    check_room(plan.home, plan.missing_bytes, plan.name)
    _leave_note(plan)
    progress = Progress(plan.choice.total_bytes)
    jobs: queue.SimpleQueue[tuple[RemoteFile, str, Future[FileRecord]]] = queue.SimpleQueue()
    results: list[Future[FileRecord]] = []
    for file, role in sorted(plan.choice.files, key=lambda entry: -entry[0].bytes):
        results.append(Future())
        jobs.put((file, role, results[-1]))
    # Daemons: a thread that waits for a silent server must not keep a stopped program alive.
    for _ in range(min(AT_ONCE, len(results))):
        threading.Thread(
            target=_work, args=(hub, plan, jobs, progress, patience or Patience()), daemon=True
        ).start()
    try:
        while not all(result.done() for result in results):
            report(progress)
            threading.Event().wait(_TICK_S)
        report(progress)
        records = [result.result() for result in _failures_first(results)]
    except Cancelled:
        raise KeyboardInterrupt from None
    finally:
        progress.cancelled.set()
    return _finish(plan, records)


def _work(
    hub: Hub,
    plan: Plan,
    jobs: queue.SimpleQueue[tuple[RemoteFile, str, Future[FileRecord]]],
    progress: Progress,
    patience: Patience,
) -> None:
    """One thread: fetch files until there are none left or one has failed."""
    source = (plan.listing.repo, plan.listing.commit)
    while True:
        try:
            file, role, result = jobs.get_nowait()
        except queue.Empty:
            return
        try:
            progress.stop_if_cancelled()
            place = plan.places[file.path]
            sha256, is_new = fetch(hub, source, file, place, progress, patience)
            result.set_result(FileRecord(file.path, file.bytes, sha256, role, is_new))
        except BaseException as error:
            progress.cancelled.set()
            if isinstance(error, OSError):
                error = disk_error(error, file.path, plan.places[file.path].part)
            result.set_exception(error)


def _failures_first(results: list[Future[FileRecord]]) -> list[Future[FileRecord]]:
    """Results with a real failure in front of those that were only stopped because of it."""

    def order(result: Future[FileRecord]) -> int:
        error = result.exception()
        return 2 if error is None else 1 if isinstance(error, Cancelled) else 0

    return sorted(results, key=order)


def check_room(place: Path, needed_bytes: int, name: str) -> None:
    """HubError when the disk that `place` will be on has too little room."""
    there = place
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed_bytes and free < needed_bytes + SPARE_BYTES:
        raise HubError(
            f"there is no room for {name}: it needs {_gb(needed_bytes)} more, and {there} has {_gb(free)} "
            "free. Make room, take a smaller model, or put the cache on another disk: HF_HOME=/that/folder"
        )


def _leave_note(plan: Plan) -> None:
    """Say on the disk what is being fetched, so that gemstead rm finds what a pull left unfinished."""
    lines = [plan.name, *(place.part.name for place in plan.places.values())]
    try:
        plan.manifest_path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(note_path(plan.manifest_path)) as file:
            file.write("\n".join(lines).encode())
    except OSError as error:
        raise disk_error(error, plan.name, plan.manifest_path) from error
    except WeightsError as error:
        raise HubError(str(error)) from error


def note_path(manifest_path: Path) -> Path:
    """Where the note of an unfinished pull stands."""
    return manifest_path.with_suffix(NOTE_SUFFIX)


def _finish(plan: Plan, records: list[FileRecord]) -> Manifest:
    """Give the checked files their names, then write the manifest."""
    ours = set()  # fetched by an earlier pull of this repository
    for earlier in plan.manifest_path.parent.glob("*.json"):
        with suppress(HubError):
            ours |= {file.sha256 for file in read_manifest(earlier).files if file.fetched}
    kept = [replace(record, fetched=record.fetched or record.sha256 in ours) for record in records]
    manifest = Manifest(
        plan.name,
        plan.choice.opens,
        tuple(sorted(kept, key=lambda record: record.path)),
        plan.listing.repo,
        plan.listing.commit,
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    order = sorted(plan.places, key=lambda path: (path in _LAST, path == plan.choice.opens))
    try:
        for path in order:
            _name(plan.places[path], path)
        _refer(plan)
    except OSError as error:
        raise disk_error(error, plan.name, plan.opens) from error
    manifest.write(plan.manifest_path)
    note_path(plan.manifest_path).unlink(missing_ok=True)
    return manifest


def _name(place: Place, path: str) -> None:
    """Let the pointer lead to the blob; where a disk knows no links, the file itself goes there."""
    if place.pointer.exists():
        return
    place.pointer.parent.mkdir(parents=True, exist_ok=True)
    depth = len(PurePosixPath(path).parts) + 1
    try:
        place.pointer.unlink(missing_ok=True)  # a link that leads nowhere
        place.pointer.symlink_to(Path(*[".."] * depth, "blobs", place.blob.name))
    except FileExistsError:  # another process was quicker
        return
    except OSError:
        place.blob.replace(place.pointer)


def _refer(plan: Plan) -> None:
    """Note the commit of the branch, as huggingface_hub does."""
    ref = plan.home / "refs" / plan.wanted.revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(ref) as file:
        file.write(plan.listing.commit.encode())


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
