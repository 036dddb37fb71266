"""The command's frame: exit codes, one-line errors, quick start, quiet pipes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gemstead.cli import main as frame
from gemstead.errors import CapacityError, WeightsError


def test_version(gem):
    ran = gem("--version")
    assert ran.code == 0
    assert ran.out.startswith("gemstead ")


def test_help_lists_every_command(gem):
    ran = gem("--help")
    assert ran.code == 0
    for name, about in frame.COMMANDS.items():
        assert f"  {name}" in ran.out
        assert about in ran.out


@pytest.mark.parametrize("name", list(frame.COMMANDS))
def test_every_command_has_help_of_its_own(gem, name):
    ran = gem(name, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: gemstead {name}")


def test_no_command_is_wrong_usage(gem):
    ran = gem()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: gemstead")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["ls"], "No such command 'ls'. Did you mean 'list'?"),
        (["xyzzy"], "No such command 'xyzzy'. There are run, chat, plan"),
        (["run", "--tempreature", "1", "hi"], "--tempreature"),
        (["run", "--backend", "cuda", "hi"], "'cuda' is not one of"),
        (["run", "--threads", "0", "hi"], "0 is not in the range"),
        (["run", "--threads", "all", "hi"], "'all' is not a valid number of threads, or auto"),
        (["run", "--thinking", "maybe", "hi"], "'maybe' is not possible; allowed are on, off"),
        (["run", "--top-k", "many", "hi"], "'many' is not a valid integer"),
        (["run", "--temperature", "-1", "hi"], "temperature = -1.0 is out of range; allowed is 0.0 to 100.0"),
        (["run", "--temperature", "nan", "hi"], "temperature = nan is out of range"),
        (["run", "--memory", "lots", "hi"], "'lots' is not an amount of memory; write 6GB"),
        (["show", "one", "two"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(gem, fake, args, said):
    fake()
    ran = gem(*args)
    assert (ran.code, ran.out) == (2, "")
    error, hint = ran.err.splitlines()[0], ran.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: see gemstead")
    assert "Traceback" not in ran.err


def test_a_prompt_with_a_dash_gets_its_hint(gem, fake):
    fake()
    assert "comes after --" in gem("run", "-5 + 3?").err


def test_no_memory_under_an_address_limit_names_it(gem, fake, monkeypatch):
    fake([MemoryError()])
    monkeypatch.setattr("resource.getrlimit", lambda _: (3_000_000, 3_000_000))
    assert "hint: raise ulimit -v (3,000,000 bytes, files counted), or use a smaller" in gem("run", "hi").err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (WeightsError("the file is cut off"), 1, "error: the file is cut off\n"),
        (CapacityError("no room"), 1, "error: no room\nhint: the options are --memory SIZE"),
        (MemoryError(), 1, "error: out of memory\nhint: "),
        (PermissionError(13, "Permission denied", "x.gguf"), 1, "error: x.gguf: permission denied\n"),
        (ZeroDivisionError("division by zero"), 1, "a bug in gemstead: ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_a_failing_model_is_one_line(gem, fake, error, code, said):
    fake([error])
    ran = gem("run", "hi")
    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_debugging_shows_the_traceback(gem, fake, monkeypatch):
    monkeypatch.setenv("GEMSTEAD_DEBUG", "1")
    fake([ZeroDivisionError("boom")])
    ran = gem("run", "hi")
    assert ran.code == 1
    assert "Traceback" in ran.err


def test_an_error_cannot_steer_the_terminal(gem, fake):
    fake([WeightsError("tensor \x1b]0;owned\x07 is bad")])
    assert "\x1b" not in gem("run", "hi").err


def python(code: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)


def test_help_imports_nothing_slow():
    code = (
        "import sys\nfrom gemstead.cli.main import main\nmain(['run', '--help'])\n"
        "slow = {'numpy', 'tokenizers', 'torch', 'prompt_toolkit', 'asyncio', 'gemstead.model'}\n"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    assert python(code).stderr.strip() == "[]"


def test_python_m_gemstead():
    ran = subprocess.run([sys.executable, "-m", "gemstead", "--version"], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("gemstead ")


def test_a_closed_pipe_is_quiet():
    code = (
        "import sys, gemstead\nfrom gemstead.cli.main import main\n"
        "from gemstead.types import Done, TextDelta\n"
        "class Model:\n"
        "    note = None\n"
        "    def chat(self, *a, **k):\n"
        "        for _ in range(100000): yield TextDelta('x' * 100)\n"
        "        yield Done('stop')\n"
        "    def __enter__(self): return self\n"
        "    def __exit__(self, *a): pass\n"
        "gemstead.open = lambda *a, **k: Model()\n"
        "sys.exit(main(['run', '-m', 'pebble', 'hi']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == 141


def test_shell_completion_knows_the_commands(gem, monkeypatch, capsys):
    monkeypatch.setenv("_GEMSTEAD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "gemstead s")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        gem()
    assert "show" in capsys.readouterr().out


def test_closed_streams_are_empty_ones():
    def run(words, redirection):
        line = f'"{sys.executable}" -m gemstead {words} {redirection}'
        return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)

    assert "bug" not in run("show pebble", ">&-").stderr
    assert run("run hi --max-tokens 4", "<&-").returncode == 0
    assert run("list", "2>&-").returncode == 0
