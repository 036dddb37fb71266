"""The printed plan: fits its width, says why, ends in commands; exit codes for scripts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gemstead.cli.plan import duration, lines, rate
from gemstead.machine.gpus import Gpu
from gemstead.machine.host import host_of
from gemstead.machine.plan import plan

LAPTOP = "16GB, 4 cores, 40GB/s, 400GOP/s"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("machine", [LAPTOP, "pi4", "macbook-m4-max", "1GB, 1 core, 1GB/s"])
def test_no_line_is_wider_than_the_screen(machine, width):
    printed = lines(plan(machine=machine, context=131_072), width).split("\n")
    assert max(map(len, printed)) <= width
    assert len([line for line in printed if "q4_k_m" in line and "GB" in line]) >= 5


def test_wide_lines_say_why():
    out = lines(plan(machine=LAPTOP), 120)
    assert "comfortable: 8.7 GB of memory stay free" in out
    assert "no: needs 15.1 GB of memory, 12.0 GB free" in out
    narrow = lines(plan(machine=LAPTOP), 80)
    assert "no: memory: 12b q8_0 needs 13.6 GB" in narrow


def test_it_ends_in_what_to_type(gem):
    ran = gem("plan", "--for", LAPTOP)
    assert ran.code == 0
    assert ran.out.rstrip().endswith("gemstead pull e4b\n  gemstead chat e4b --context 8192")


def test_nothing_fits_is_exit_code_1(gem):
    ran = gem("plan", "--for", "1GB, 1 core, 5GB/s")
    assert ran.code == 1
    assert "Nothing fits. The least is gemma-4-e2b q4_0" in ran.out
    assert "gemstead chat" in ran.out


def test_what_cannot_be_done_yet_is_said_plainly(gem):
    ran = gem("plan", "--for", LAPTOP, "--task", "ocr")
    assert ran.code == 1
    assert ran.out.rstrip().endswith("Nothing can do this: gemstead sees no images yet.")


def test_json(gem):
    ran = gem("plan", "--for", "pi5", "--json", "--users", "2")
    found = json.loads(ran.out)
    assert found["users"] == 2
    assert found["best"]["variant"] == "e2b"
    assert ran.code == 0


def test_a_wrong_machine_is_one_line(gem):
    ran = gem("plan", "--for", "a big one")
    assert ran.code == 2
    assert ran.err.startswith("error: cannot plan for 'a big one'")


def test_this_machine_is_measured(gem):
    ran = gem("plan", "--json")
    found = json.loads(ran.out)["machine"]
    assert found["is_here"]
    assert found["bytes_s"] > 1e8
    assert found["disk_bytes"] > 0


def test_gpus_kinds_of_cores_and_notes_are_shown():
    host = replace(
        host_of(LAPTOP),
        kinds=(4, 4),
        isa="avx2",
        gpus=(Gpu("NVIDIA Test", 80_000_000_000, 79_000_000_000),),
        notes=("a container or control group limits the memory",),
    )
    out = lines(plan(machine=host), 120)
    assert "(4 + 4 of different speed), avx2" in out
    assert "GPU: NVIDIA Test, 79.0 GB of 80.0 GB free; the table below is the processor's" in out
    assert "Note: a container or control group limits the memory." in out


@pytest.mark.parametrize("width", [80, 120])
def test_what_the_gpu_has_room_for(monkeypatch, width):
    gpu = Gpu("NVIDIA Test", 24_000_000_000, 23_000_000_000, 1e12)
    made = plan(machine=replace(host_of(LAPTOP), gpus=(gpu,)))
    monkeypatch.setattr("gemstead.cli.plan.what_is_missing", lambda: "pip install something")
    printed = lines(made, width).split("\n")
    assert max(map(len, printed)) <= width
    out = " ".join(" ".join(printed).split())
    assert "free, reads at most 1,000 GB/s; the table below is the processor's" in out
    assert "On the GPU with --backend torch, in bf16: e2b 4.6 GB, at most " in out
    assert "31b does not fit: " in out
    assert "To use the GPU: pip install something" in out
    monkeypatch.setattr("gemstead.cli.plan.what_is_missing", lambda: None)
    assert "To use the GPU" not in lines(made, width)
    assert "GPU" not in lines(plan(machine=LAPTOP), width)
    assert [one["fits"] for one in made.as_json()["on_gpu"]] == [True, True, False, False, False]


def test_figures_have_few_digits():
    assert [rate(x) for x in (0.04, 4.83, 19.4, 144.2)] == ["0.0", "4.8", "19", "144"]
    assert [duration(x) for x in (0.4, 7.2, 99, 130, 7200)] == ["0.4 s", "7 s", "99 s", "2 min", "2.0 h"]
