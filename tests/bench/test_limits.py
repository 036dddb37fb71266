"""The plan's word inside real control groups: a small model that lives or dies by its limit, and verdicts."""

from __future__ import annotations

from dataclasses import replace

import limits
import make_random
import pytest
from limits import CannotLimitError, Outcome

from gemstead.backend.native.cores import usable_cores
from gemstead.machine.fit import Load, footprint
from gemstead.spec.variants import VARIANTS
from gemstead.weights.store import open_store

CONTEXT = 760


@pytest.fixture(autouse=True)
def can_limit(monkeypatch):
    """Packed weights stay in memory, where nobody can take them back."""
    monkeypatch.setenv("GEMSTEAD_CACHE", "")
    try:
        with limits.group(1 << 30):
            pass
    except CannotLimitError as error:
        pytest.skip(f"{error}; it takes Linux and root")


def wide():
    """Few weights and much work: 160 MB of it after a chunk of a prompt."""
    spec = make_random.roomy(VARIANTS["tiny-e2b"])
    layers = tuple(replace(layer, intermediate_size=1 << 15) for layer in spec.layers)
    return replace(spec, layers=layers, max_position_embeddings=1024)


def test_what_fits_runs_and_what_does_not_is_killed(tmp_path):
    spec, path = wide(), tmp_path / "wide.gguf"
    make_random.write(path, spec, "q8_0", make_random.synthetic_vocabulary(spec))
    with open_store(path) as store:
        formats = {name: tensor.format for name, tensor in store.tensors.items()}
    held = footprint(spec, formats, Load(CONTEXT, threads=usable_cores()))
    assert held.total > 250e6
    ran = limits.converse(path, CONTEXT, None, int(held.total / 0.95), held.weights)
    assert ran.ended == "ran", ran
    assert ran.figures["peak_bytes"] == pytest.approx(held.total, rel=0.1)
    assert limits.converse(path, CONTEXT, None, int(0.8 * held.total), held.weights).ended == "killed"


def test_a_plan_inside_a_group_plans_for_the_group():
    said = limits.verdict("e2b", "q4_0", 2048, 2_500_000_000)
    assert said["verdict"] in ("comfortable", "tight")  # tight on a machine that is slow just now
    assert said["reason"] != "memory"
    assert 2.3e9 < said["free_bytes"] < 2.5e9
    said = limits.verdict("e2b", "q4_0", 2048, 1_200_000_000)
    assert (said["verdict"], said["reason"]) == ("no", "memory")


@pytest.mark.parametrize(
    ("verdict", "reason", "ended", "kept"),
    [
        ("comfortable", "", "ran", True),
        ("comfortable", "", "killed", False),
        ("tight", "memory", "rereads", True),
        ("no", "memory", "killed", True),
        ("no", "memory", "rereads", True),
        ("no", "memory", "ran", False),
        ("no", "disk", "ran", True),
    ],
)
def test_when_a_verdict_came_true(verdict, reason, ended, kept):
    assert limits.is_kept({"verdict": verdict, "reason": reason}, Outcome(ended, "", {})) == kept
