"""pebble's training loop: packing loses nothing, Muon turns matrices, a run repeats and goes on."""

from __future__ import annotations

import csv

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the optional extra gemstead[torch]")
pytest.importorskip("matplotlib", reason="the loss curve is drawn with matplotlib")
train = pytest.importorskip("train", reason="recipes/pebble is not on the path")

LENGTHS = (30, 7, 12, 25, 40, 9, 18, 3, 33, 21, 14, 28) * 3


@pytest.fixture
def data(tmp_path):
    """Shards of counting documents: every token is the one before it plus its document's step."""
    rng = np.random.default_rng(0)
    for name in ("train", "heldout"):
        documents = [(rng.integers(250) + np.arange(n) * rng.integers(1, 3)) % 256 for n in LENGTHS]
        masks = [np.arange(n) > n // 3 for n in LENGTHS]
        starts = np.concatenate([[0], np.cumsum(LENGTHS)[:-1]])
        np.save(tmp_path / f"{name}.ids.npy", np.concatenate(documents).astype(np.uint16))
        np.save(tmp_path / f"{name}.mask.npy", np.concatenate(masks).astype(np.uint8))
        np.save(tmp_path / f"{name}.starts.npy", starts.astype(np.int64))
    return tmp_path


def settings(data, out, **changes):
    values = {"variant": "tiny-e2b", "minutes": 0, "steps": 40, "row_tokens": 32, "batch_rows": 4}
    values |= {"threads": 1, "report_s": 1e9, "eval_rows": 4, "lr": 0.02}
    return train.Settings(data=str(data), out=str(out), **{**values, **changes})


def test_packing_keeps_every_fitting_document_and_its_loss(data):
    shard = train.Shard(data, "train", 32)
    assert shard.dropped == sum(n - 1 > 32 for n in LENGTHS) == 3
    rows = list(shard.rows(seed=1))
    assert sorted(d for row in rows for d in row) == list(range(len(shard.spans)))
    assert rows != list(shard.rows(seed=2))
    batch = shard.batch(rows)
    assert batch["inputs"].shape == (len(rows), 32)
    wanted = sum(int(shard.mask[a + 1 : b].sum()) for a, b in shard.spans)
    assert batch["weight"].sum() == wanted
    for r, row in enumerate(rows):
        assert sum(int(b - a - 1) for a, b in shard.spans[row]) == (batch["segments"][r] >= 0).sum()
    kept = batch["weight"].bool()
    before = batch["inputs"].gather(1, batch["columns"])[kept]
    step = (batch["targets"][kept] - before) % 256
    assert set(step.tolist()) <= {1, 2}  # each target follows its own input, across no seam


def test_a_shard_of_long_documents_is_refused(data):
    with pytest.raises(SystemExit, match="none of 36 documents fits 1 tokens"):
        train.Shard(data, "train", 1)


def test_muon_steps_are_nearly_orthogonal():
    for shape in ((24, 60), (60, 24)):
        turned = train.orthogonal(torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)))
        sizes = torch.linalg.svdvals(turned.float())
        assert sizes.min() > 0.5
        assert sizes.max() < 1.4


def test_the_rate_rises_stays_and_falls():
    s = train.Settings(data="", out="", warmup=0.1, decay=0.5)
    assert [round(train.rate(p, s), 2) for p in (0, 0.05, 0.1, 0.5, 0.75, 1.0, 1.1)] == [
        0,
        0.5,
        1,
        1,
        0.5,
        0,
        0,
    ]


def test_a_run_learns_and_repeats(data, tmp_path):
    train.train(settings(data, tmp_path / "a"))
    with (tmp_path / "a" / "curve.csv").open() as file:
        (last,) = csv.DictReader(file)
    assert float(last["heldout_loss"]) < 4.5  # from ln 256 = 5.5
    assert (tmp_path / "a" / "curve.png").stat().st_size > 1000
    train.train(settings(data, tmp_path / "b"))
    same(tmp_path / "a", tmp_path / "b")


def test_a_stopped_run_goes_on_as_if_never_stopped(data, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "write_curve", lambda *_: None)
    changes = {"steps": 12, "ema": 0.9, "report_s": 0}
    train.train(settings(data, tmp_path / "whole", **changes))
    # Reports come every step here, checkpoints every tenth: the power fails at step 11.
    original = train.Run.train_step

    def failing(run, batch):
        if run.step == 11:
            raise KeyboardInterrupt
        return original(run, batch)

    monkeypatch.setattr(train.Run, "train_step", failing)
    with pytest.raises(KeyboardInterrupt):
        train.train(settings(data, tmp_path / "cut", **changes))
    monkeypatch.setattr(train.Run, "train_step", original)
    train.train(settings(data, tmp_path / "cut", **changes))
    same(tmp_path / "whole", tmp_path / "cut")


def same(a, b):
    ours, theirs = (torch.load(folder / "weights.pt", weights_only=True) for folder in (a, b))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_flags_are_the_settings(data, tmp_path):
    flags = f"--data {data} --out {tmp_path / 'run'} --variant tiny-12b --minutes 0 --steps 2"
    train.main(f"{flags} --row-tokens 32 --batch-rows 4 --threads 1 --precision f32".split())
    assert (tmp_path / "run" / "weights.pt").exists()
