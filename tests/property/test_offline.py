"""Offline is provable: every command but pull runs where a socket beyond this machine is an error.

An audit hook in each process sees whatever Python asks of the network, name lookups included, and ends the
process at once. The C++ core is checked to import no function that could open a socket.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gemstead
from gemstead import pebble
from gemstead.cli.main import COMMANDS
from gemstead.hub.manifest import NAME, FileRecord, Manifest, sha256_of

GUARD = """
import os, sys

LOCAL = ("127.0.0.1", "::1", "localhost", None, "")


def guard(event, args):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        beyond = isinstance(address, tuple) and address[0] not in LOCAL
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        beyond = args[0] not in LOCAL
    else:
        return
    if beyond:
        os.write(2, f"NETWORK: {event} {args[:2]}\\n".encode())
        os._exit(99)


sys.addaudithook(guard)
"""
PROGRAM = GUARD + "from gemstead.cli.main import main\nsys.exit(main(sys.argv[1:]))\n"

# What each command is asked to do: arguments, what is typed, the exit code. A new command belongs here.
SCRIPTS = {
    "run": [(["What is 17% of 2400?"], "", 0), (["e2b", "hi"], "", 1), (["mine", "What is 2 + 3?"], "", 0)],
    "chat": [([], "What is 12 * 12?\n", 0)],
    "plan": [([], "", 0), (["--for", "pi4", "--json"], "", 0), (["--for", "1GB, 1GB/s"], "", 1)],
    "list": [([], "", 0), (["--json"], "", 0)],
    "rm": [(["e2b", "--yes"], "", 1), (["gemma4:carried", "--yes"], "", 0)],
    "carry": [
        (["--to", "stick", "gemma4:carried"], "", 0),
        (["--from", "stick"], "", 0),
        (["--from", "http://127.0.0.1:9", "--code", "x"], "", 1),
    ],
    "serve": [(["e2b"], "", 1)],
    "ps": [(["--port", "9"], "", 1)],
    "stop": [(["--port", "9"], "", 1)],
    "launch": [(["claude", "--port", "9"], "", 1), (["clade"], "", 2)],
    "show": [(["pebble"], "", 0), (["gemma4:e2b"], "", 1)],
    "quantize": [
        (["mine", "small.gguf", "--format", "q4_0"], "", 0),
        (["e2b", "small.gguf", "--format", "q4_0"], "", 1),
    ],
    "verify": [(["pebble"], "", 0), (["models/carried/m.gguf"], "", 0), (["e2b"], "", 1)],
    "compare": [
        (["pebble", "mine", "--text", "models/carried/gemstead.json", "--tokens", "20"], "", 0),
        (["pebble", "e2b", "--text", "models/carried/gemstead.json"], "", 1),
    ],
    "bench": [(["--quick", "--repeat", "1"], "", 0)],
}


@pytest.fixture
def home(tmp_path):
    """A home with two models: one of the person's own, and one that gemstead brought."""
    models = tmp_path / "models"
    carried = models / "carried"
    carried.mkdir(parents=True)
    shutil.copy(pebble.path(), models / "mine.gguf")
    shutil.copy(pebble.path(), carried / "m.gguf")
    file = carried / "m.gguf"
    record = FileRecord(file.name, file.stat().st_size, sha256_of(file), "weights")
    Manifest("gemma4:carried", file.name, (record,)).write(carried / NAME)
    return tmp_path


def guarded(home: Path, args: list[str], typed: str = "", program: str = PROGRAM, **more: str):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GEMSTEAD_"))}
    env |= {"HOME": str(home), "GEMSTEAD_MODELS": str(home / "models"), **more}
    command = [sys.executable, "-c", program, *args]
    return subprocess.run(
        command, cwd=home, env=env, input=typed, capture_output=True, text=True, timeout=300
    )


def test_every_command_but_pull_has_a_script():
    assert set(SCRIPTS) == set(COMMANDS) - {"pull"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_command_but_pull_asks_a_network(home, name):
    for args, typed, code in SCRIPTS[name]:
        args = [str(home / "models/mine.gguf") if arg == "mine" else arg for arg in args]
        ran = guarded(home, [name, *args], typed)
        assert "NETWORK" not in ran.stderr, ran.stderr
        assert ran.returncode == code, f"{name} {args}: {ran.stderr}"


@pytest.mark.parametrize("more", [{"GEMSTEAD_OFFLINE": "1"}, {}])
def test_pull_offline_asks_nobody(home, more):
    ran = guarded(home, ["pull", "e2b"] if more else ["pull", "--offline", "e2b"], **more)
    assert ran.returncode == 1
    assert "gemstead pull needs the network" in ran.stderr


def test_the_guard_sees_a_download(home):
    """The same program with pull is stopped, so the tests above can fail."""
    ran = guarded(home, ["pull", "e2b"])
    assert ran.returncode == 99
    assert "NETWORK: socket.getaddrinfo" in ran.stderr
    assert "huggingface.co" in ran.stderr


def test_the_library_asks_nobody(home):
    code = GUARD + "import gemstead\nprint(gemstead.open().ask('What is 17% of 2400?'))"
    ran = guarded(home, [], program=code)
    assert "408" in ran.stdout, ran.stderr


def test_the_core_cannot_open_a_socket():
    library = Path(gemstead.__file__).parent / "backend/native/libgemstead.so"
    if not library.exists():
        pytest.skip("the native engine is not built here")
    names = set(re.findall(rb"\0([a-z_]{4,20})(?=\0)", library.read_bytes()))
    assert b"mmap" in names or b"memcpy" in names  # the table of imported names was read
    assert not names & {
        b"socket",
        b"connect",
        b"getaddrinfo",
        b"gethostbyname",
        b"sendto",
        b"bind",
        b"listen",
    }
