"""The ceiling against what the system counts: a full server, all of its K/V in use, stays under it."""

from __future__ import annotations

import random
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gemstead import pebble
from support.serving import ADMIN, start

# gemstead, content with a quarter of the usual least K/V: more would only take longer to fill.
PROGRAM = """
import sys
from gemstead.machine import memory
memory.LEAST_KV_BYTES = 16 << 20
from gemstead.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
CEILING_BYTES = 177_000_000  # a little more than it needs then
REQUESTS, WORDS = 64, 360  # together more tokens than the K/V under that ceiling holds
MIB = 1 << 20


@pytest.fixture
def running(long_pebble):
    """A server under that ceiling, its model not yet open."""
    options = ("--memory", str(CEILING_BYTES), "--keep-alive", "30m", "--max-queue", "200")
    running = start(*options, models=(long_pebble,), program=("-c", PROGRAM))
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def long_pebble(tmp_path):
    """Pebble that says it can read 65,536 tokens, so that its K/V takes all it may have."""
    data = bytearray(pebble.path().read_bytes())
    at = data.index(key := b"gemma4.context_length") + len(key)
    assert struct.unpack_from("<II", data, at) == (4, 4096)  # a uint32
    struct.pack_into("<I", data, at + 4, 1 << 16)
    path = tmp_path / "pebble.gguf"
    path.write_bytes(data)
    return str(path)


def held(pid: int, name: str) -> int:
    """Bytes the system counts for a process."""
    return int(Path(f"/proc/{pid}/status").read_text("ascii").split(f"{name}:")[1].split()[0]) * 1024


def asked(number: int) -> tuple[str, dict]:
    """One request of each kind in turn, no two alike."""
    dice = random.Random(number)
    text = " ".join(
        f"{dice.choice(['sea', 'hill', 'road', 'house'])}{dice.randrange(1000)}" for _ in range(WORDS)
    )
    schema = {"type": "object", "properties": {f"a{number}": {"type": "string"}}, "required": [f"a{number}"]}
    tool = {"name": f"look{number}", "description": "Look", "parameters": schema}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    chat = {
        "model": "pebble",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 32,
        "seed": number,
    }
    return (
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", {**chat, "stream": True}),
        ("/v1/chat/completions", {**chat, "response_format": form}),
        ("/v1/chat/completions", {**chat, "tools": [{"type": "function", "function": tool}]}),
        ("/v1/chat/completions", {**chat, "n": 3, "logprobs": True, "top_logprobs": 5}),
        ("/v1/responses", {"model": "pebble", "input": text, "max_output_tokens": 16}),
        ("/v1/messages", {name: chat[name] for name in ("model", "messages", "max_tokens")}),
        ("/v1/embeddings", {"model": "pebble", "input": [text, text[::-1]]}),
    )[number % 8]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc is missing: nobody counts memory")
def test_the_ceiling_holds_for_the_whole_process(running):
    pid, before = running.process.pid, held(running.process.pid, "VmRSS")
    with ThreadPoolExecutor(REQUESTS) as pool:
        ends = list(pool.map(lambda number: running.post(*asked(number))[0], range(REQUESTS)))
    assert set(ends) == {200}
    memory = running.wait_idle()["memory"]
    metrics = running.get("/metrics", key=ADMIN)[1]
    shown = float(metrics.split("\ngemstead_memory_ceiling_bytes ")[1].split()[0])
    assert memory["ceiling"] == shown == CEILING_BYTES
    assert memory["prefix"] > 0.85 * memory["kv"] > 0.85 * 16 * MIB  # nearly all of it is in use
    peak = held(pid, "VmHWM")
    assert memory["resident"] <= peak
    assert peak - before > memory["kv"]
    counted = sum(memory[name] for name in ("weights", "kv", "responses", "working"))
    assert peak <= counted <= shown, {name: size / MIB for name, size in {**memory, "peak": peak}.items()}
