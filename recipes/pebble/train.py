"""Trains pebble from scratch: packed conversations in, a checkpoint and its loss curve out.

Reads the token shards that the data files of this folder write (see Shard). Knows nothing of text:
what to learn is in the mask. Runs on 2 CPU cores within a time budget, and on a GPU where there is one.

    python recipes/pebble/train.py --data recipes/pebble/out/data --out recipes/pebble/out/run --minutes 60
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot
from torch.nn import functional

from gemstead import pebble
from gemstead.backend.torch.model import TextModel
from gemstead.spec.variants import VARIANTS
from gemstead.weights.store import open_store

matplotlib.use("Agg")  # pictures to files, no screen


@dataclass
class Settings:
    """What a run is made of; every field is a flag of the same name."""

    data: str
    out: str
    variant: str = "pebble"
    start: str = ""  # a model to go on from (a path, or pebble); else from scratch
    minutes: float = 60.0  # wall-clock budget that shapes the schedule; 0: use `steps`
    steps: int = 0  # with minutes = 0: exact number of steps, for a run that repeats exactly
    row_tokens: int = 1536  # length of a packed row
    batch_rows: int = 2
    lr: float = 0.006  # of hidden matrices (Muon)
    lr_embed: float = 0.006  # of embeddings and norms (AdamW)
    weight_decay: float = 0.01
    warmup: float = 0.02  # share of the run
    decay: float = 0.98  # share of the run, at its end, over which the rate falls to zero
    clip: float = 1.0
    ema: float = 0.0  # 0: off; else the decay of an average of the weights, which is then what is kept
    precision: str = "auto"  # bf16 where the processor computes in it, else f32
    threads: int = 2
    seed: int = 1
    eval_rows: int = 24
    report_s: float = 120.0  # between reports, which come with a checkpoint


class Shard:
    """Documents as three flat files: NAME.ids.npy uint16, NAME.mask.npy uint8, NAME.starts.npy int64.

    Document i is ids[starts[i]:starts[i + 1]] (the last one ends with the file); mask is 1 where the
    token is the model's to say. A document longer than a row is left out and counted in `dropped`.
    """

    def __init__(self, folder: Path, name: str, row_tokens: int) -> None:
        self.ids, self.mask, starts = (np.load(folder / f"{name}.{x}.npy") for x in ("ids", "mask", "starts"))
        ends = np.append(starts[1:], len(self.ids))
        fits = ends - starts - 1 <= row_tokens
        self.spans = np.stack([starts, ends], axis=1)[fits]
        self.dropped = int((~fits).sum())
        self.row_tokens = row_tokens
        if not len(self.spans):
            raise SystemExit(f"{folder}/{name}: none of {len(starts)} documents fits {row_tokens} tokens")

    def rows(self, seed: int) -> Iterator[list[int]]:
        """All documents once in a random order, packed best-fit: each row is a list of documents."""
        order = np.random.default_rng(seed).permutation(len(self.spans))
        lengths = (self.spans[:, 1] - self.spans[:, 0] - 1).tolist()
        open_rows: list[list[int]] = []
        room: list[int] = []
        for document in order.tolist():
            need = lengths[document]
            fitting = [i for i, r in enumerate(room) if r >= need]
            if fitting:
                i = min(fitting, key=room.__getitem__)
            else:
                i = len(room)
                open_rows.append([])
                room.append(self.row_tokens)
            open_rows[i].append(document)
            room[i] -= need
            if room[i] < 16 or len(room) > 48:
                full = min(range(len(room)), key=room.__getitem__)
                room.pop(full)
                yield open_rows.pop(full)
        yield from open_rows

    def batch(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        """Rows as tensors: inputs, segments [B, T]; columns that carry loss, targets, weight [B, W]."""
        shape = (len(rows), self.row_tokens)
        inputs, targets = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        mask, segments = np.zeros(shape, np.uint8), np.full(shape, -1, np.int64)
        for r, row in enumerate(rows):
            at = 0
            for number, document in enumerate(row):
                a, b = self.spans[document]
                here = slice(at, at + b - a - 1)
                inputs[r, here], targets[r, here] = self.ids[a : b - 1], self.ids[a + 1 : b]
                mask[r, here], segments[r, here] = self.mask[a + 1 : b], number
                at = here.stop
        counts = mask.sum(axis=1)
        width = max(32, -(-int(counts.max()) // 32) * 32)
        columns = np.argsort(-mask.astype(np.int8), axis=1, kind="stable")[:, :width]
        found = {
            "inputs": inputs,
            "segments": segments,
            "columns": columns,
            "targets": np.take_along_axis(targets, columns, axis=1),
            "weight": (np.arange(width) < counts[:, None]).astype(np.float32),
        }
        return {name: torch.from_numpy(array) for name, array in found.items()}


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix-shaped step is replaced by the nearest orthogonal matrix.

    The idea and the five-step Newton-Schulz polynomial: Keller Jordan et al., "Muon: an optimizer for
    hidden layers in neural networks" (2024). The factor 0.2 sqrt(longer side), which lets it share
    AdamW's scale of learning rates: Liu et al., "Muon is scalable for LLM training" (2025).
    """

    def __init__(self, params: list[torch.Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """One step; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for p in group["params"]:
                by_shape.setdefault(p.shape, []).append(p)
            for shape, params in by_shape.items():
                moved = []
                for p in params:
                    memory = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    memory.lerp_(p.grad, 1 - group["momentum"])
                    moved.append(p.grad.lerp(memory, group["momentum"]))
                size = group["lr"] * 0.2 * max(shape) ** 0.5
                for p, direction in zip(params, orthogonal(torch.stack(moved)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-size)


@cache
def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself; a CPU that does not takes 40 times as long."""
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """Roughly U V^T of each matrix of x [n, rows, columns]; bfloat16, where it is fast, is exact enough."""
    tall = x.shape[-2] > x.shape[-1]
    y = (x.mT if tall else x).to(torch.bfloat16 if has_bf16(x.device) else torch.float32)
    y = y / (y.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):  # the coefficients are Jordan et al.'s
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), y, beta=3.4445)
    return (y.mT if tall else y).to(x.dtype)


def optimizers(model: TextModel, s: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside layers, AdamW for tables and norms."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.dim() == 2 and not name.startswith("embed")]
    rest = [p for name, p in named if p.dim() != 2 or name.startswith("embed")]
    return [
        Muon(matrices, lr=s.lr, momentum=0.95, weight_decay=s.weight_decay),
        torch.optim.AdamW(rest, lr=s.lr_embed, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def rate(progress: float, s: Settings) -> float:
    """Learning-rate factor at a share of the run: linear up, flat, linear down to zero."""
    return max(0.0, min(1.0, progress / s.warmup if s.warmup else 1.0, (1 - progress) / s.decay))


def loss_of(
    model: TextModel, batch: dict[str, torch.Tensor], s: Settings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss over the tokens that count, and how many of them are the most likely one."""
    device = model.norm.device
    b = {name: x.to(device, non_blocking=True) for name, x in batch.items()}
    in_bf16 = s.precision == "bf16" or (s.precision == "auto" and has_bf16(device))
    with torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
        logits = model(b["inputs"], segments=b["segments"], wanted=b["columns"])
    flat, target, weight = logits.flatten(0, 1).float(), b["targets"].flatten(), b["weight"].flatten()
    keep = weight.nonzero()[:, 0]
    flat, target = flat[keep], target[keep]
    right = (flat.detach().argmax(-1) == target).float().mean()
    return functional.cross_entropy(flat, target), right


class Run:
    """The state of a training run: everything a checkpoint holds."""

    def __init__(self, s: Settings) -> None:
        self.s = s
        torch.manual_seed(s.seed)
        torch.set_num_threads(s.threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if s.start:
            with open_store(pebble.path() if s.start == "pebble" else s.start) as store:
                self.model = TextModel.from_store(store)
        else:
            self.model = TextModel(VARIANTS[s.variant])
            self.model.init_weights(s.seed)
        self.model.to(self.device)
        self.optimizers = optimizers(self.model, s)
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters()} if s.ema else None
        self.step, self.epoch, self.row, self.elapsed_s, self.tokens = 0, 0, 0, 0.0, 0
        self.curve: list[dict[str, float]] = []

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        counters = {name: getattr(self, name) for name in COUNTERS}
        state = {"settings": asdict(self.s), "model": self.model.state_dict(), "average": self.average}
        state |= {"optimizers": [o.state_dict() for o in self.optimizers], "counters": counters}
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, value in state["counters"].items():
            setattr(self, name, value)

    def progress(self) -> float:
        """Share of the run that is done, by the clock or by steps."""
        return self.elapsed_s / (60 * self.s.minutes) if self.s.minutes else self.step / self.s.steps

    def train_step(self, batch: dict[str, torch.Tensor]) -> tuple[float, float]:
        """One update; loss and gradient norm before clipping."""
        factor = rate(self.progress(), self.s)
        for optimizer, peak in zip(self.optimizers, (self.s.lr, self.s.lr_embed), strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        loss, _ = loss_of(self.model, batch, self.s)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.s.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if self.average is not None:
            for name, p in self.model.named_parameters():
                self.average[name].lerp_(p.detach(), 1 - min(self.s.ema, self.step / (self.step + 10)))
        self.step += 1
        self.tokens += int((batch["segments"] >= 0).sum())
        return loss.item(), norm.item()

    @torch.no_grad()
    def evaluate(self, shard: Shard) -> tuple[float, float]:
        """Loss and share of right tokens on the first rows of the held-out shard."""
        rows = [row for row, _ in zip(shard.rows(0), range(self.s.eval_rows), strict=False)]
        own = {n: p.detach().clone() for n, p in self.model.named_parameters()} if self.average else {}
        if self.average:
            self.model.load_state_dict(self.average)
        found, count = np.zeros(2), 0.0
        for i in range(0, len(rows), self.s.batch_rows):
            batch = shard.batch(rows[i : i + self.s.batch_rows])
            weight = float(batch["weight"].sum())
            found += weight * np.array([x.item() for x in loss_of(self.model, batch, self.s)])
            count += weight
        if own:
            self.model.load_state_dict(own)
        return float(found[0] / count), float(found[1] / count)


COUNTERS = ("step", "epoch", "row", "elapsed_s", "tokens", "curve")


def keep_freed_memory() -> None:
    """Ask glibc to keep big blocks: handing them back costs page faults, 8 % of a step on a CPU."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**30)


def batches(run: Run, shard: Shard) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches, epoch after epoch, from where the run stands."""
    while True:
        rows = list(shard.rows(run.s.seed * 1000 + run.epoch))
        while run.row + run.s.batch_rows <= len(rows):
            run.row += run.s.batch_rows
            yield shard.batch(rows[run.row - run.s.batch_rows : run.row])
        if len(rows) < run.s.batch_rows:
            raise SystemExit(f"{len(rows)} rows of data are fewer than batch_rows = {run.s.batch_rows}")
        run.epoch, run.row = run.epoch + 1, 0


def write_curve(curve: list[dict[str, float]], out: Path) -> None:
    """The loss curve as curve.csv and curve.png."""
    with (out / "curve.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(curve[0]))
        writer.writeheader()
        writer.writerows(curve)
    figure, axes = pyplot.subplots(figsize=(7, 4))
    millions = [point["tokens"] / 1e6 for point in curve]
    axes.plot(millions, [point["train_loss"] for point in curve], label="training")
    axes.plot(millions, [point["heldout_loss"] for point in curve], label="held out")
    axes.set(xlabel="million tokens", ylabel="loss (nats per answered token)", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out / "curve.png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def report(run: Run, losses: list[float], norm: float, heldout: Shard, out: Path) -> None:
    """One line to the terminal, one point on the curve."""
    loss, right = run.evaluate(heldout)
    point = {
        "step": run.step,
        "elapsed_s": round(run.elapsed_s, 1),
        "tokens": run.tokens,
        "train_loss": round(math.fsum(losses) / len(losses), 5),
        "heldout_loss": round(loss, 5),
        "heldout_right": round(right, 5),
        "grad_norm": round(norm, 4),
        "rate": round(rate(run.progress(), run.s), 4),
    }
    run.curve.append(point)
    write_curve(run.curve, out)
    done, speed = 100 * run.progress(), run.tokens / max(run.elapsed_s, 1e-9)
    print(
        f"{done:5.1f} %  {speed:6.0f} tok/s  " + "  ".join(f"{k} {v}" for k, v in point.items()), flush=True
    )


def train(s: Settings) -> None:
    """The whole run; going on from `out`/last.pt where there is one."""
    keep_freed_memory()
    out, data = Path(s.out), Path(s.data)
    out.mkdir(parents=True, exist_ok=True)
    run, last = Run(s), out / "last.pt"
    if last.exists():
        run.load(last)
    shard, heldout = (Shard(data, name, s.row_tokens) for name in ("train", "heldout"))
    count = sum(p.numel() for p in run.model.parameters())
    print(f"{s.variant}: {count:,} parameters on {run.device}, {len(shard.spans):,} documents", end=", ")
    print(f"{len(shard.ids):,} tokens, {shard.dropped} too long for a row; step {run.step}", flush=True)
    losses, reported, clock = [], run.elapsed_s, time.monotonic()
    for batch in batches(run, shard):
        loss, norm = run.train_step(batch)
        losses.append(loss)
        now = time.monotonic()
        run.elapsed_s, clock = run.elapsed_s + now - clock, now
        finished = run.progress() >= 1
        if run.elapsed_s - reported >= s.report_s or finished:
            report(run, losses, norm, heldout, out)
            losses, reported = [], run.elapsed_s
            run.save(last)
            clock = time.monotonic()  # the report is not part of the training time
        if finished:
            break
    weights = run.average or {n: p.detach() for n, p in run.model.named_parameters()}
    temporary = out / "weights.tmp"
    torch.save({n: p.cpu() for n, p in weights.items()}, temporary)
    temporary.replace(out / "weights.pt")


def main(arguments: list[str] | None = None) -> None:
    """Settings from flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds: dict[str, Any] = {"str": str, "int": int, "float": float}
    for field in fields(Settings):
        required = field.name in ("data", "out")
        default = None if required else field.default
        kind = kinds[str(field.type)]
        parser.add_argument(
            "--" + field.name.replace("_", "-"), type=kind, default=default, required=required
        )
    train(Settings(**vars(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()
