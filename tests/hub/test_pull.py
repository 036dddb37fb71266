"""Pulling from a hub that misbehaves: whatever happens, the store is whole afterwards."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from gemstead.errors import HubError
from gemstead.hub import pull as pull_module
from gemstead.hub.fetch import Patience
from gemstead.hub.local import resolve
from gemstead.hub.names import parse
from gemstead.hub.pull import plan, present, pull
from gemstead.hub.remote import Hub
from gemstead.weights.store import open_store
from support.fake_hub import COMMIT, FakeHub, serving

E2B = "google/gemma-4-E2B-it-qat-q4_0-gguf"
WEIGHTS, MMPROJ = "gemma-4-E2B_q4_0-it.gguf", "gemma-4-E2B-it-mmproj.gguf"


def blobs(home):
    return home / "hf/hub" / ("models--" + E2B.replace("/", "--")) / "blobs"


def test_a_gguf_with_its_mmproj(hub, fetch, whole):
    done = fetch("e2b")
    assert [(file.path, file.role) for file in done.manifest.files] == [
        (MMPROJ, "mmproj"),
        (WEIGHTS, "weights"),
    ]
    assert done.manifest.revision == COMMIT
    assert done.manifest.files[1].sha256 == hashlib.sha256(hub.repos[E2B][WEIGHTS]).hexdigest()
    model = resolve("gemma-4-E2B-it")
    assert (model.origin, model.name, model.mmproj and model.mmproj.name) == (
        "gemstead",
        "gemma4:e2b-it-qat",
        MMPROJ,
    )
    open_store(model.facts.path).close()
    whole()


def test_text_only_leaves_the_mmproj(fetch):
    assert [file.path for file in fetch("e2b", text_only=True).manifest.files] == [WEIGHTS]


@pytest.mark.parametrize("name", ["google/gemma-4-E2B-it", "e2b-bf16"])
def test_a_safetensors_folder(fetch, whole, name):
    done = fetch(name)
    assert {file.path for file in done.manifest.files} == {"config.json", "model.safetensors"}
    assert resolve(name).facts.path.is_dir()
    whole()


def test_a_drafter_is_a_model_of_its_own(fetch):
    fetch("e2b")
    fetch("e2b-assistant")
    assert not resolve("e2b").facts.is_drafter
    assert resolve("e2b-drafter").facts.is_drafter


def test_formats_of_one_repository_are_kept_apart(fetch, whole):
    fetch("someone/several-GGUF:Q8_0")
    fetch("hf.co/someone/several-gguf:f32".replace("gguf", "GGUF"))
    assert resolve("someone/several-GGUF:q8_0").facts.path.name == "tiny-Q8_0.gguf"
    assert resolve("someone/several-GGUF:tiny-F32.gguf").facts.path.name == "tiny-F32.gguf"
    with pytest.raises(HubError, match="could be several models here"):
        resolve("someone/several-GGUF")
    whole()


def test_a_second_pull_transfers_nothing(hub, fetch):
    fetch("e2b")
    sent = hub.sent_bytes
    client = Hub()
    again = plan(client, parse("e2b"))
    assert (again.missing_bytes, present(again) is not None) == (0, True)
    pull(client, again)
    assert hub.sent_bytes == sent


def test_huggingface_hub_finds_what_was_pulled(fetch):
    fetch("e2b")
    code = (
        "from huggingface_hub import hf_hub_download, scan_cache_dir\n"
        f"print(hf_hub_download({E2B!r}, {WEIGHTS!r}))\nprint(scan_cache_dir().warnings)"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    path, warnings = ran.stdout.splitlines()
    assert path == str(resolve("e2b").facts.path)
    assert warnings == "[]"


def test_what_huggingface_hub_fetched_is_used_and_not_ours(fetch, whole):
    code = f"from huggingface_hub import hf_hub_download\nhf_hub_download({E2B!r}, {WEIGHTS!r})"
    subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, check=True)
    assert resolve("e2b").origin == "Hugging Face"
    done = fetch("e2b")
    assert {file.path: file.fetched for file in done.manifest.files} == {MMPROJ: True, WEIGHTS: False}
    whole()


@pytest.mark.parametrize("seed", range(6))
def test_cuts_at_any_byte_are_resumed(hub, fetch, whole, seed):
    size = len(hub.repos[E2B][WEIGHTS])
    rng = random.Random(seed)
    hub.cuts = [rng.choice([1, 7, rng.randrange(size // 2), size - 1]) for _ in range(6)]
    hub.ranges = seed % 3 != 2
    hub.cuts = (
        hub.cuts if hub.ranges else hub.cuts[:2]
    )  # a server that ignores Range begins anew, and is believed
    fetch("e2b")
    assert hub.ranges_asked()
    whole()


def test_cuts_without_end_are_told_and_kept(hub, home, fetch, whole):
    hub.cuts = [1000, 1000, *([0] * 40)]
    with pytest.raises(HubError, match="What has arrived is kept; run the same command again"):
        fetch("e2b", text_only=True)
    whole(empty=True)
    (part,) = blobs(home).glob("*.gemstead-part")
    assert part.stat().st_size >= 1000
    hub.cuts = []
    fetch("e2b", text_only=True)
    assert f"bytes={part.name and 2000}-" in hub.ranges_asked()
    whole()


def test_a_killed_process_is_continued(hub, fetch, whole):
    hub.pause_s = 0.02
    code = (
        "from gemstead.hub.names import parse\nfrom gemstead.hub.pull import plan, pull\n"
        "from gemstead.hub.remote import Hub\nhub = Hub()\npull(hub, plan(hub, parse('e2b'), text_only=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
    while hub.sent_bytes < 100_000 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole(empty=True)
    hub.pause_s = 0.0
    fetch("e2b", text_only=True)
    assert any(asked != "bytes=0-" for asked in hub.ranges_asked())
    whole()


def test_two_processes_pull_one_model(hub, whole):
    hub.pause_s = 0.005
    code = (
        "from gemstead.hub.names import parse\nfrom gemstead.hub.pull import plan, pull\n"
        "from gemstead.hub.remote import Hub\nhub = Hub()\npull(hub, plan(hub, parse('e2b')))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ)) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert hub.sent_bytes == sum(len(hub.repos[E2B][name]) for name in (WEIGHTS, MMPROJ))
    whole()


@pytest.mark.parametrize("name", ["e2b", "e2b-bf16"])
def test_a_wrong_hash_removes_the_file(hub, home, fetch, whole, name):
    hub.wrong = lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])
    with pytest.raises(HubError, match=r"its hash is .*, the hub says .*The file was removed"):
        fetch(name)
    whole(empty=True)
    assert not [path for path in home.rglob("blobs/*") if ".gemstead-part" not in path.name]
    hub.wrong = lambda raw: raw
    for part in home.rglob("*.gemstead-part*"):
        part.unlink()  # another file of the model, broken off: its bytes are wrong too
    fetch(name)
    whole()


def test_more_bytes_than_announced(hub, fetch, whole):
    hub.wrong = lambda raw: raw + b"more"
    with pytest.raises(HubError, match="is longer than the"):
        fetch("e2b")
    whole(empty=True)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"gated": True}, "is gated: its owner wants you to accept a licence first"),
        ({"token": "secret"}, "has no model .* or it is private"),
        ({"listing_statuses": [(403, {})]}, "forbids reading"),
        ({"listing_statuses": [(404, {"X-Error-Code": "RepoNotFound"})]}, "has no model"),
        (
            {"listing_statuses": [(429, {"Retry-After": "3600"})]},
            "too many requests.*asks to wait 3600 seconds",
        ),
        ({"listing_statuses": [(500, {})] * 9}, "has trouble of its own \\(HTTP 500\\)"),
        ({"listing_statuses": [(418, {})]}, "answered HTTP 418"),
        ({"statuses": [(429, {"Retry-After": "3600"})] * 9}, "again in 3600 seconds to go on from there"),
        ({"statuses": [(503, {})] * 9}, "has trouble of its own \\(HTTP 503\\)"),
        ({"statuses": [(404, {"X-Error-Code": "EntryNotFound"})] * 9}, "no longer holds this file"),
    ],
)
def test_refusals_are_told_plainly(hub, fetch, whole, fault, message):
    for name, value in fault.items():
        setattr(hub, name, value)
    with pytest.raises(HubError, match=message):
        fetch("e2b")
    whole(empty=True)


def test_passing_trouble_passes(hub, fetch, whole):
    hub.listing_statuses = [(503, {}), (429, {"Retry-After": "0"})]
    hub.statuses = [(500, {}), (429, {"Retry-After": "0"}), (408, {}), (502, {})]
    fetch("e2b")
    whole()


def test_a_wrong_token_and_a_right_one(hub, fetch, monkeypatch):
    hub.token = "secret"
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(HubError, match="does not accept the token in HF_TOKEN"):
        fetch("e2b")
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch("e2b")


def test_the_token_stays_with_the_hub(hub, fetch, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.token = "secret"
    with serving(FakeHub(repos=hub.repos)) as elsewhere:
        hub.redirect_to = elsewhere.url.replace("127.0.0.1", "localhost")
        fetch("e2b")
        assert elsewhere.requests
        assert not [headers for _, _, headers in elsewhere.requests if "authorization" in headers]


def test_a_stalled_transfer_goes_on(hub, fetch, whole):
    hub.stall_after = 1 << 16
    lift = threading.Timer(0.4, lambda: setattr(hub, "stall_after", None))
    lift.start()
    fetch("e2b", timeout_s=0.3)
    lift.join()
    assert hub.ranges_asked()
    whole()


def test_a_hub_that_is_not_there(fetch, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nothing listens
    with pytest.raises(HubError, match=r"cannot be reached.*check the network"):
        fetch("e2b")


def test_without_a_network_nobody_waits(hub, monkeypatch):  # noqa: ARG001  the fixture's home
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    began = time.monotonic()
    with pytest.raises(HubError, match=r"cannot be reached.*check the network"):
        pull_module.plan(Hub(), parse("e2b"), patience=Patience(tries=3, first_wait_s=30))
    assert time.monotonic() - began < 25


def test_no_room_is_told_before_anything_is_fetched(hub, fetch, whole, monkeypatch):
    class Usage:
        free = 1 << 20

    monkeypatch.setattr(pull_module.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(
        HubError, match=r"there is no room for gemma4:e2b-it-qat: it needs .* has 1.05 MB free"
    ):
        fetch("e2b")
    assert hub.sent_bytes == 0
    whole(empty=True)


def test_a_disk_that_fills_up(fetch, whole):
    """A limit on the size of files stands for the end of the disk: the write fails in the middle."""
    code = (
        "import resource, signal, sys\nfrom gemstead.hub.names import parse\n"
        "from gemstead.hub.pull import plan, pull\nfrom gemstead.hub.remote import Hub\n"
        "from gemstead.errors import HubError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nhub = Hub()\nplanned = plan(hub, parse('e2b'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    pull(hub, planned)\nexcept HubError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True)
    assert "cannot write" in ran.stdout, ran.stderr
    whole(empty=True)
    fetch("e2b")
    whole()


def test_a_full_disk_says_so_and_is_continued_once_there_is_room(hub, home):
    """A disk of 400 kB in a namespace of its own; the check beforehand is left out."""
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*mount, "mount -t tmpfs x /mnt"], check=False).returncode
    ):
        pytest.skip("this machine lets nobody mount a small disk")
    script = (
        "import gemstead.hub.pull as p, sys\nfrom gemstead.hub.names import parse\n"
        "from gemstead.hub.remote import Hub\nfrom gemstead.errors import HubError\n"
        "from gemstead.hub.local import scan\nfrom gemstead.hub.remove import unfinished\n"
        "p.check_room = lambda *_: None\nhub = Hub()\n"
        "def go():\n"
        "    try:\n        p.pull(hub, p.plan(hub, parse('e2b'), text_only=True))\n"
        "    except HubError as error:\n        print('ERROR', error)\n"
        "go()\nprint(len(scan()), unfinished()[0].bytes > 100_000)\n"
        "import subprocess\nsubprocess.run(['mount', '-o', 'remount,size=4m', sys.argv[1]], check=True)\n"
        "go()\nprint(len(scan()), len(unfinished()))\n"
    )
    disk = home / "hf"
    disk.mkdir()
    (home / "script.py").write_text(script)
    command = f"mount -t tmpfs -o size=400k x {disk} && {sys.executable} {home / 'script.py'} {disk}"
    ran = subprocess.run([*mount, command], env=dict(os.environ), capture_output=True, text=True, check=True)
    error, begun, done = ran.stdout.splitlines()
    assert "the disk is full: " in error
    assert "What has arrived is kept; make room" in error
    assert (begun, done) == ("0 True", "1 0")
    assert any(asked != "bytes=0-" for asked in hub.ranges_asked())


def test_a_damaged_file_of_someone_else_is_left_alone(hub, home, fetch):
    name = hashlib.sha256(hub.repos[E2B][WEIGHTS]).hexdigest()
    blobs(home).mkdir(parents=True)
    (blobs(home) / name).write_bytes(b"other")
    with pytest.raises(HubError, match=r"was here before and is damaged.*delete that file yourself"):
        fetch("e2b")
    assert (blobs(home) / name).read_bytes() == b"other"


def test_a_moved_branch_brings_the_new_files(hub, fetch):
    fetch("e2b", text_only=True)
    hub.commit = "f" * 40
    hub.repos[E2B] = {**hub.repos[E2B], MMPROJ: b"GGUF new"}
    done = fetch("e2b")
    assert done.manifest.revision == "f" * 40
    assert [file.fetched for file in done.manifest.files] == [True, True]


def test_only_safe_paths(hub, fetch):
    hub.repos["a/b"] = {"../../evil.gguf": b"GGUF"}
    with pytest.raises(HubError, match="leads out of its folder"):
        fetch("a/b")


def test_offline_asks_nobody(hub, fetch, monkeypatch):
    monkeypatch.setenv("GEMSTEAD_OFFLINE", "1")
    with pytest.raises(HubError, match="downloading needs the network, and --offline"):
        fetch("e2b")
    assert hub.requests == []


def test_a_proxy_is_used(hub):
    """The proxy is another fake hub: it is asked for the whole address of a host that does not exist."""
    code = (
        "from gemstead.hub.names import parse\nfrom gemstead.hub.pull import plan, pull\n"
        "from gemstead.hub.remote import Hub\nhub = Hub()\npull(hub, plan(hub, parse('e2b')))"
    )
    env = {**os.environ, "HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.url, "NO_PROXY": ""}
    env = {k: v for k, v in env.items() if k not in ("http_proxy", "https_proxy", "no_proxy")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert all(path.startswith("http://hub.invalid/") for _, path, _ in hub.requests)


def test_ctrl_c_stops_and_keeps(hub, fetch, whole):
    hub.pause_s = 0.02

    def stop(progress):
        if progress.done > 50_000:
            raise KeyboardInterrupt

    client = Hub()
    with pytest.raises(KeyboardInterrupt):
        pull(client, plan(client, parse("e2b"), text_only=True), stop)
    time.sleep(0.2)  # the thread notices at its next piece
    whole(empty=True)
    hub.pause_s = 0.0
    fetch("e2b", text_only=True)
    whole()
