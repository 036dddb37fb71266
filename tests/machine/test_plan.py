"""What fits and why: the verdicts, the best choice, and the limits that the system sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.memory_store import MemoryStore

import gemstead
from gemstead.errors import ConfigError
from gemstead.hub.names import parse
from gemstead.machine.fit import Load, addresses, footprint
from gemstead.machine.host import host_of
from gemstead.machine.plan import FORMATS, TASKS, plan
from gemstead.spec.variants import VARIANTS
from gemstead.weights.mixture import is_finer
from gemstead.weights.model_file import write_model_gguf
from gemstead.weights.store import open_store

LAPTOP = "16GB, 4 cores, 40GB/s, 400GOP/s"


def choices(made):
    return {(choice.variant, choice.format): choice for choice in made.choices}


def test_every_variant_in_every_format_smallest_first():
    made = gemstead.plan(machine=LAPTOP)
    assert len(made.choices) == 5 * len(FORMATS)
    variants = list(dict.fromkeys(choice.variant for choice in made.choices))
    assert variants == ["e2b", "e4b", "12b", "26b-a4b", "31b"]
    with pytest.raises(AttributeError):
        made.users = 2


def test_a_no_is_over_what_is_free_and_a_comfortable_one_is_not():
    made = plan(machine=LAPTOP)
    free = made.host.free_bytes
    for choice in made.choices:
        assert (choice.verdict == "no") == (choice.memory.total > 1.05 * free)
        if choice.verdict == "comfortable":
            assert choice.reason == ""
            assert choice.memory.total < free
            assert choice.decode_tok_s >= 5
        else:
            assert choice.reason
        assert choice.why
        assert len(f"{choice.verdict}: {choice.why}") <= 49  # beside the table in 120 columns


def test_what_needs_about_all_there_is_may_run():
    """Memory is told 5 % right: within that a "no" would be a guess."""
    made = choices(plan(machine=LAPTOP))["e2b", "q4_0"].memory.total
    for share, verdict in ((1.04, "tight"), (1.06, "no")):
        host = replace(host_of(LAPTOP), free_bytes=int(made / share))
        found = choices(plan(machine=host))["e2b", "q4_0"]
        assert (found.verdict, found.reason) == (verdict, "memory")


def test_every_name_is_one_that_pull_takes():
    for choice in plan(machine=LAPTOP).choices:
        if choice.name is not None:
            row = parse(choice.name).row
            assert row.variant == choice.variant
            assert choice.format in [known.lower() for known in row.formats]


def test_the_sizes_are_those_of_googles_files():
    """MODEL.md 7.3: what Google gives, and ggml-org's Q8_0 of 31B, in 10^9 bytes."""
    found = choices(plan(machine=LAPTOP))
    sizes = {"e2b": 3.35, "e4b": 5.15, "26b-a4b": 14.44, "31b": 17.65}
    for variant, size in sizes.items():
        assert found[variant, "q4_0"].download_bytes / 1e9 == pytest.approx(size, rel=2e-3)
    assert found["31b", "q8_0"].download_bytes / 1e9 == pytest.approx(32.64, rel=1e-3)


def test_more_context_and_more_users_take_more_memory_and_time():
    one, long, many = (
        choices(plan(machine=LAPTOP, **asked))["e4b", "q4_0"]
        for asked in ({}, {"context": 65_536}, {"users": 4})
    )
    assert one.memory.kv < long.memory.kv
    assert 4 * one.memory.kv <= many.memory.kv < 8 * one.memory.kv
    assert many.decode_tok_s < one.decode_tok_s < 4 * many.decode_tok_s
    assert one.memory.weights == long.memory.weights == many.memory.weights


def test_eight_bits_halve_the_context():
    plain, small = (choices(plan(machine=LAPTOP, kv=kv))["12b", "q4_0"].memory for kv in ("f16", "q8_0"))
    assert small.kv < 0.6 * plain.kv


def test_a_drafter_and_its_memory():
    plans = (plan(machine=LAPTOP, drafter=on) for on in (False, True))
    without, beside = (choices(made)["e2b", "q4_0"].memory for made in plans)
    assert without.drafter == 0
    assert beside.total - without.total == beside.drafter > 50e6


def test_what_gemstead_cannot_do_yet_is_no_choice():
    for task in ("ocr", "tune"):
        made = plan(machine=LAPTOP, task=task)
        assert not made.fits
        assert {choice.reason for choice in made.choices} == {"not yet"}
    heard = choices(plan(machine=LAPTOP, task="transcribe"))
    assert heard["31b", "q4_0"].reason == "cannot hear"
    assert heard["e2b", "q4_0"].reason == "not yet"


def test_the_best_is_the_largest_comfortable_one_and_its_commands_fit_it():
    made = plan(machine="8GB, 4 cores, 40GB/s, 400GOP/s")
    assert (made.best.variant, made.best.format) == ("e4b", "q4_0")
    assert made.commands() == ("gemstead pull e4b", "gemstead chat e4b --context 8192")
    assert plan(machine=LAPTOP, users=3).commands()[1].startswith("gemstead serve ")


def test_a_command_asks_for_the_memory_that_the_engine_would_not_set_aside():
    made = plan(machine="11GB, 8 cores, 200GB/s, 9000GOP/s", context=131_072)
    assert made.best.name == "e4b"
    assert made.best.memory_option == made.best.memory.kv
    assert made.commands()[1].endswith(f"--memory {-(-made.best.memory.kv // 10**6)}MB")


def test_a_full_disk_is_a_no():
    made = plan(machine="64GB, 8 cores, 60GB/s, 800GOP/s, 6GB disk")
    assert {c.verdict for c in made.choices if c.download_bytes > 6e9} == {"no"}
    assert choices(made)["31b", "q4_0"].why == "needs 17.7 GB of disk, 6.0 GB free"
    assert made.best.variant == "e4b"


def test_too_long_a_context_is_a_no():
    made = choices(plan(machine="64GB, 8 cores, 60GB/s", context=200_000))
    assert made["e2b", "q4_0"].why == "holds 131,072 tokens at most"
    assert made["12b", "q4_0"].reason != "context"


def test_nothing_fits():
    made = plan(machine="1GB, 1 core, 5GB/s")
    assert (made.fits, made.best, made.commands()) == (False, None, ())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"task": "dance"}, "choose one of chat, agent"),
        ({"context": 100}, "context = 100 is too small to plan for; the least is 1,200"),
        ({"users": 0}, "users = 0"),
        ({"kv": "q2"}, "choose one of f16, q8_0"),
    ],
)
def test_what_cannot_be_planned(asked, words):
    with pytest.raises(ConfigError, match=words):
        plan(machine=LAPTOP, **asked)


def test_json_has_it_all():
    made = plan(machine="pi5")
    text = json.loads(json.dumps(made.as_json()))
    assert text["machine"]["about"] == "Raspberry Pi 5, 16 GB"
    assert text["machine"]["bytes_s"] > 1e9
    assert len(text["choices"]) == 20
    assert text["choices"][0]["memory_bytes"] == sum(text["choices"][0]["memory"].values())
    assert text["best"]["verdict"] == "comfortable"


def test_every_task_can_be_planned_for():
    assert set(TASKS) == {"chat", "agent", "ocr", "transcribe", "code", "tune"}
    for task in TASKS:
        assert plan(machine="pi5", task=task).context_tokens == TASKS[task].context_tokens


def test_an_address_limit_is_seen():
    """ulimit -v counts whole files: what maps more than it allows is a no, what may is tight."""
    host = host_of(LAPTOP)
    limited = choices(plan(machine=replace(host, address_bytes=4_000_000_000)))["e2b", "q4_0"]
    assert (limited.verdict, limited.reason) == ("no", "ulimit")
    roomy = choices(plan(machine=replace(host, address_bytes=9_000_000_000)))["e2b", "q4_0"]
    assert roomy.verdict == "comfortable"


RUN = """
import resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import gemstead
with gemstead.open(sys.argv[3], threads=1, memory=int(sys.argv[2])) as model:
    print(len(model.generate([2, 5, 6], gemstead.SamplingParams(max_tokens=4, seed=0))))
"""


def runs_under(limit: int, kv: int, path: Path) -> bool:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(limit), str(kv), str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    return ran.returncode == 0


def test_under_ulimit_what_may_map_that_much_runs_and_what_must_map_more_does_not(tmp_path):
    if sys.platform != "linux":
        pytest.skip("RLIMIT_AS is only enforced on Linux")
    spec = replace(VARIANTS["tiny-e2b"], max_position_embeddings=1 << 20)
    arrays = {name: tensor.values for name, tensor in MemoryStore(spec).tensors.items()}
    write_model_gguf(tmp_path / "m.gguf", spec, arrays, "q4_0")
    with open_store(tmp_path / "m.gguf") as store:
        formats = {name: tensor.format for name, tensor in store.tensors.items()}
    held = footprint(spec, formats, Load(1 << 20))
    least, most = addresses(spec, formats, held, threads=1)
    assert most < 2 * least
    assert runs_under(most, held.kv, tmp_path / "m.gguf")
    large = footprint(spec, formats, Load(1 << 20, users=12))
    least, most = addresses(spec, formats, large, threads=1)
    assert runs_under(most, large.kv, tmp_path / "m.gguf")
    assert not runs_under(least - (350 << 20), large.kv, tmp_path / "m.gguf")


def test_the_mixture_spends_more_on_the_outer_layers():
    assert is_finer("layers.0.mlp.down_proj", 35)
    assert not is_finer("layers.5.mlp.down_proj", 35)
    assert not is_finer("layers.0.mlp.up_proj", 35)
