"""Comparing: taking turns, ratios of neighbours, and what each worker times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types

import history
import make_random
import peer
import pytest
import workers

import gemstead


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("peer") / "m.gguf"
    make_random.main(["tiny-e2b", "q8_0", str(file)])
    return file


class FakeLlama:
    """The calls of llama_cpp.Llama that a worker makes, written down."""

    def __init__(self, **options):
        self.options, self.calls = options, []
        self._ctx = types.SimpleNamespace(ctx="context")

    def n_vocab(self):
        return 1024

    def reset(self):
        self.calls.append("reset")

    def eval(self, ids):
        self.calls.append(len(ids))


@pytest.fixture
def llama(monkeypatch):
    put_back = []
    library = types.SimpleNamespace(
        Llama=FakeLlama,
        llama_state_get_size=lambda _: 3,
        llama_state_get_data=lambda *_: 3,
        llama_state_set_data=lambda *given: put_back.append((given[0], given[2])),
        put_back=put_back,
    )
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    monkeypatch.setattr(workers, "version", lambda _: "0")
    return workers.LlamaCpp("m.gguf", 2, 100)


def test_llama_reads_the_past_again_each_time(llama):
    calls = llama._llama.calls
    assert llama.prefill(0, 32) > 0
    assert llama.prefill(64, 32) > 0
    assert llama.decode(0, 3) > 0
    assert calls == ["reset", 32, "reset", 64, 32, "reset", 1, 1, 1, 1]
    assert llama._llama.options["n_threads"] == llama._llama.options["n_threads_batch"] == 2
    assert llama.about["name"] == "llama.cpp (0)"


def test_llama_reads_a_long_past_once(llama, monkeypatch):
    monkeypatch.setattr(workers, "CHUNK_TOKENS", 64)
    for _ in range(3):
        assert llama.decode(64, 2) > 0
    assert llama._llama.calls == ["reset", 64, 1, 1, "reset", 1, 1, "reset", 1, 1]
    assert llama._lib.put_back == [("context", 3)] * 2


def test_sequences_together(path):
    ours = workers.Ours(str(path), 1, 100)
    assert ours.together(0, 4 * 3) > 0
    assert ours.clients(0, 4 * 3) > 0


def test_ours_is_timed_at_a_depth(path):
    worker = workers.Ours(str(path), 1, 300)
    assert worker.about["format"] == "q8_0"
    for depth in (0, 64, 64):
        assert worker.prefill(depth, 32) > 0
        assert worker.decode(depth, 3) > 0


def test_transformers_is_timed_at_a_depth(path):
    pytest.importorskip("torch", reason="transformers needs torch")
    pytest.importorskip("transformers", reason="compares with transformers")
    worker = workers.Transformers(str(path), 1, 300)
    assert worker._model.config.get_text_config().num_hidden_layers == 9
    assert worker.together(0, 4 * 2) > 0
    assert worker.clients(0, 4 * 2) > 0
    for depth in (0, 20, 20):
        assert worker.prefill(depth, 8) > 0
        assert worker.decode(depth, 2) > 0


def test_a_worker_answers_on_its_own(path):
    with peer.Worker("ours", sys.executable, path, 1, 100) as worker:
        assert worker.about["name"].startswith("gemstead ")
        assert worker.seconds("prefill", 0, 16) > 0
        assert worker.seconds("decode", 8, 2) > 0


def test_a_worker_that_ends_is_told(tmp_path):
    with pytest.raises(SystemExit, match=r"llama\.cpp ended with exit code"):
        peer.Worker("llama.cpp", sys.executable, tmp_path / "none.gguf", 1, 100)


class Turns:
    """Workers that take a second each, ours half of one; writes down who was asked."""

    asked: list[str]

    def __init__(self, kind, python, model, threads, context):  # noqa: ARG002
        self.pid = os.getpid()
        self.kind, self.about = kind, {"name": f"{kind} 1", "format": "q8_0" if kind == "ours" else ""}

    def seconds(self, measure, depth, tokens):  # noqa: ARG002
        Turns.asked.append(self.kind)
        return 0.5 if self.kind == "ours" else 1.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize("options", [[], ["--one-at-a-time"]])
def test_everybody_takes_turns(path, tmp_path, monkeypatch, capsys, options):
    Turns.asked = []
    file = tmp_path / "history.csv"
    monkeypatch.setattr(peer, "Worker", Turns)
    monkeypatch.setattr(peer.history, "append", lambda lines, append=history.append: append(lines, file))
    peer.main([str(path), "--llama-venv", "/x", "--repeat", "2", "--new-tokens", "4", *options])
    assert Turns.asked.count("ours") == Turns.asked.count("llama.cpp")
    if not options:
        assert Turns.asked[:8] == ["llama.cpp", "ours"] * 2 + ["ours", "llama.cpp"] * 2
    out = capsys.readouterr().out
    assert "2.00 to 2.00  tok/s, llama.cpp" in out
    assert "2 lines appended" in out
    rows = file.read_text(encoding="utf-8").splitlines()
    assert ",llama.cpp 1," in rows[1]
    assert "decode 4 @0" in rows[2]


def test_nobody_to_compare_with(path):
    with pytest.raises(SystemExit, match="there is nobody to compare with"):
        peer.main([str(path)])


def test_setup_builds_for_this_machine(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: ran.append((command, options)))
    peer.main(["--setup", "--llama-venv", str(tmp_path)])
    assert ran[0][0][1:3] == ["-m", "venv"]
    assert ran[1][0][-1] == "llama-cpp-python==0.3.36"
    assert ran[1][1]["env"]["CMAKE_ARGS"] == "-DGGML_NATIVE=ON"
    with pytest.raises(SystemExit, match="needs --llama-venv"):
        peer.main(["--setup"])


def test_prompts_are_the_same_for_everybody():
    first, second = workers.Prompts(1024, 10), workers.Prompts(1024, 10)
    assert (first.past, first.fresh(5)) == (second.past, second.fresh(5))
    assert all(256 <= token < 512 for token in first.past)


def test_the_source_is_this_one():
    assert (peer.SOURCE / "gemstead" / "__init__.py").samefile(gemstead.__file__)
    assert json.dumps(os.fspath(peer.WORKERS)).endswith('workers.py"')


def test_a_disturbance_takes_a_third_of_a_core_and_ends(monkeypatch):
    begun = []
    real = subprocess.Popen
    monkeypatch.setattr(peer, "usable_cores", lambda: 1)
    monkeypatch.setattr(subprocess, "Popen", lambda *args: begun.append(real(*args)) or begun[-1])
    with peer.disturbance():
        assert [process.poll() for process in begun] == [None]
    assert [process.returncode is None for process in begun] == [False]
