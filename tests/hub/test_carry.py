"""Models on a stick and through a room: whole, checked, and only for those who know the code."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gemstead.errors import HubError
from gemstead.hub.carry import FolderSource, LocalSource, bring, chosen, package
from gemstead.hub.fetch import Progress
from gemstead.hub.folders import model_folders
from gemstead.hub.lan import LanSource, Sharing, key_of, new_code, prove
from gemstead.hub.local import resolve, scan
from gemstead.hub.manifest import read_manifest
from gemstead.hub.remove import remove
from gemstead.weights.store import open_store


@pytest.fixture
def local(fetch):
    """E2B in small, fetched, as a source."""
    fetch("e2b")
    return LocalSource([package(resolve("e2b"), Progress(1))])


@pytest.fixture
def stick(local, tmp_path):
    """A folder that the model was carried to."""
    folder = tmp_path / "stick"
    bring(local, local.manifests()[0], folder, Progress(1))
    return folder


@pytest.fixture
def sharing(local):
    """A sharing on loopback: its address and code, and what was told."""
    told = []
    code = new_code()
    server = Sharing(local, ("127.0.0.1", 0), code, told.append)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}", code, told, server
    server.stop()
    thread.join()
    server.close()


def take(source, parent):
    return [bring(source, manifest, parent, Progress(1)) for manifest in source.manifests()]


def test_to_a_stick_and_from_it(stick, monkeypatch, home):
    monkeypatch.setenv("HF_HOME", str(home / "empty"))  # another machine
    assert scan() == []
    (arrived,) = take(FolderSource(stick), model_folders()[0])
    model = resolve("e2b")
    assert (model.origin, model.name, model.facts.path.parent) == ("gemstead", "gemma4:e2b-it-qat", arrived)
    assert model.mmproj is not None
    open_store(model.facts.path).close()
    assert take(FolderSource(stick), model_folders()[0]) == [arrived]  # again: nothing to do
    assert remove(model) > 0
    assert scan() == []


def test_a_stick_is_used_where_it_is(stick, monkeypatch, home):
    monkeypatch.setenv("HF_HOME", str(home / "empty"))
    monkeypatch.setenv("GEMSTEAD_MODELS", str(stick))
    assert resolve("gemma4:e2b").facts.path.is_relative_to(stick)


def test_a_safetensors_folder_travels_whole(fetch, tmp_path):
    fetch("e2b-bf16")
    source = LocalSource([package(resolve("e2b-bf16"), Progress(1))])
    (arrived,) = take(source, tmp_path / "stick")
    open_store(arrived).close()


def test_a_damaged_stick_is_noticed(stick, home, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(home / "empty"))
    (weights,) = stick.glob("*/*q4_0-it.gguf")
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(HubError, match=r"q4_0-it\.gguf of gemma4:e2b-it-qat arrived damaged"):
        take(FolderSource(stick), model_folders()[0])
    assert scan() == []


def test_a_stick_pulled_out_too_early_is_continued(stick, home, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(home / "empty"))
    source = FolderSource(stick)
    (weights,) = stick.glob("*/*q4_0-it.gguf")
    raw = weights.read_bytes()
    weights.write_bytes(raw[:5000])
    with pytest.raises(HubError, match=r"ended .* bytes early"):
        take(source, model_folders()[0])
    assert scan() == []
    weights.write_bytes(raw)
    take(source, model_folders()[0])
    open_store(resolve("e2b").facts.path).close()


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "a\\b", "", "."])
def test_a_manifest_cannot_lead_out_of_its_folder(stick, path):
    (manifest,) = stick.glob("*/gemstead.json")
    data = json.loads(manifest.read_text())
    data["files"][0]["path"] = path
    manifest.write_text(json.dumps(data))
    with pytest.raises(HubError, match="leads out of its folder"):
        FolderSource(stick)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("files"),
        lambda data: data.update(gemstead_manifest=2),
        lambda data: data.update(surprise=1),
        lambda data: data["files"].append(data["files"][0]),
        lambda data: data["files"][0].update(bytes=-1),
        lambda data: data["files"][0].update(sha256="0" * 63),
        lambda data: data.update(name=7),
    ],
)
def test_a_damaged_manifest_is_refused(stick, change):
    (manifest,) = stick.glob("*/gemstead.json")
    data = json.loads(manifest.read_text())
    change(data)
    manifest.write_text(json.dumps(data))
    with pytest.raises(HubError, match=r"damaged|reads"):
        FolderSource(stick)


def test_a_folder_without_models(tmp_path):
    with pytest.raises(HubError, match="holds no models that gemstead carried"):
        FolderSource(tmp_path)


def test_names_on_a_stick(stick):
    manifests = FolderSource(stick).manifests()
    for name in ("e2b", "gemma4:e2b-it-qat", "GEMMA4-E2B-it-qat"):
        assert chosen(manifests, [name]) == manifests
    assert chosen(manifests, []) == manifests
    with pytest.raises(HubError, match=r"no model is 'e4b' here; there are: gemma4:e2b-it-qat"):
        chosen(manifests, ["e4b"])


def test_another_model_of_the_same_name_is_not_overwritten(stick, tmp_path):
    source = FolderSource(stick)
    place = tmp_path / "models" / "gemma4-e2b-it-qat"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("mine")
    with pytest.raises(HubError, match="is there already and is another model"):
        take(source, place.parent)
    assert [path.name for path in place.iterdir()] == ["mine.txt"]


def test_through_the_room(sharing, home, monkeypatch):
    url, code, told, _ = sharing
    monkeypatch.setenv("HF_HOME", str(home / "empty"))
    monkeypatch.setenv("GEMSTEAD_OFFLINE", "1")  # loopback is no network
    (arrived,) = take(LanSource(url, code.lower().replace("-", " ")), model_folders()[0])
    assert read_manifest(arrived / "gemstead.json").name == "gemma4:e2b-it-qat"
    open_store(resolve("e2b").facts.path).close()
    assert told == ["127.0.0.1 has taken gemma4:e2b-it-qat"]


def test_a_broken_line_is_resumed(sharing, tmp_path, local, monkeypatch):
    url, code, _, _ = sharing
    whole = local.read
    cut = iter([3000, 7000, None, None, None])

    def broken(manifest, file, start):
        at = next(cut)
        if at is None:
            return whole(manifest, file, start)

        class Cut:
            def __enter__(self):
                return iter(
                    [(local.packages[manifest.name].paths[file.path].read_bytes())[start : start + at]]
                )

            def __exit__(self, *_):
                return None

        return Cut()

    monkeypatch.setattr(local, "read", broken)
    (arrived,) = take(LanSource(url, code), tmp_path / "models")
    assert read_manifest(arrived / "gemstead.json").total_bytes > 0


def test_a_wrong_code_gets_nothing(sharing):
    url, _, _, server = sharing
    with pytest.raises(HubError, match="does not accept this code"):
        LanSource(url, "AAAAA-AAAAA").manifests()
    server.wrong = 10_000
    with pytest.raises(HubError, match="too many wrong codes"):
        LanSource(url, "AAAAA-AAAAA").manifests()


def test_a_machine_that_does_not_know_the_code_is_not_believed():
    class Liar(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("X-Gemstead-Proof", prove(key_of("another"), b"answer", b"[]"))
            self.end_headers()
            self.wfile.write(b"[]")

    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(HubError, match="does not know the code"):
            LanSource(f"http://127.0.0.1:{server.server_port}", "AAAAA-AAAAA").manifests()
        server.shutdown()


@pytest.mark.parametrize("path", ["../gemstead.json", "x", "%2e%2e/%2e%2e/etc/passwd", "gemstead.json"])
def test_only_the_files_of_the_manifests_are_served(sharing, path):
    url, code, _, _ = sharing
    source = LanSource(url, code)
    with (
        pytest.raises(HubError, match="answered 404"),
        source._ask(f"/carry/1/gemma4-e2b-it-qat/{path}"),
    ):
        pass


def test_addresses_that_are_none():
    for url in ("https://a", "http://", "ftp://a:1", "http://a:99999", "http://a:0"):
        with pytest.raises(HubError, match="is no address of a sharing machine"):
            LanSource(url, "x")


def test_nobody_there():
    with pytest.raises(HubError, match="cannot be reached or fell silent"):
        LanSource("http://127.0.0.1:9", "x").manifests()


def test_offline_asks_no_other_machine(monkeypatch):
    monkeypatch.setenv("GEMSTEAD_OFFLINE", "1")
    with pytest.raises(HubError, match=r"forbids asking 192\.168\.1\.20"):
        LanSource("http://192.168.1.20", "x")


def test_an_address_of_another_machine_cannot_be_shared_on(local):
    with pytest.raises(HubError, match=r"cannot share on 192.0.2.1"):
        Sharing(local, ("192.0.2.1", 0), "x", print)


def test_sharing_asks_no_name_server(local, monkeypatch):
    """HTTPServer would look up the name of its address: slow without the internet, and it tells somebody."""

    def asked(*_):
        raise AssertionError("a name server was asked")

    for name in ("getfqdn", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, asked)
    Sharing(local, ("127.0.0.1", 0), "x", print).close()
    with suppress(HubError):  # not every machine has IPv6
        Sharing(local, ("::1", 0), "x", print).close()


def test_codes():
    codes = {new_code() for _ in range(50)}
    assert len(codes) == 50
    assert all(len(code) == 11 and code[5] == "-" for code in codes)
    assert key_of("abcde-fghjk") == key_of(" ABCDE FGHJK") != key_of("ABCDE-FGHJJ")
