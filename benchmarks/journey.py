"""Pruning schedules at equal training compute: a small character transformer on text, masked while it trains (Jin et al. 2025).

    PYTHONPATH=src python benchmarks/journey.py --steps 400 --seeds 3 --out journey.jsonl

Prunable are the matrices inside the blocks; every arm spends the same 6 * average * tokens, so a run of fewer average
parameters has more steps. Sparse arms start from one size and end at 20 % of it; `dense twin` is dense at (about) the average
size of the schedule 25-75, `one-shot` trains dense, is cut at once, and spends the last tenth of the compute sparse. The law
says: equal average, equal loss. One line for each arm and seed; lines that are in --out already are not computed again. Needs PRUNUS_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.budget import Budget
from prunus.maths.scaling_law import average_parameters, cubic_sparsity
from prunus.schedule.event import Event
from prunus.train.loop import fit
from prunus.train.models import seeded

WINDOW, BATCH, FINAL, EVERY = 64, 16, 0.8, 10
SIZES = {"sparse": (64, 4), "dense twin": (45, 5)}
RISES = {"sparse 25-75": (0.25, 0.75), "sparse 0-50": (0.0, 0.5), "sparse 50-100": (0.5, 1.0)}


class Block(nn.Module):
    """Causal attention and a feed-forward layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, dim]` to the same."""
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Characters(nn.Module):
    """Two blocks; logits of the next character `[B, c, T]`."""

    def __init__(self, vocabulary: int, dim: int, heads: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, dim), nn.Parameter(torch.randn(WINDOW, dim) * 0.02)
        self.blocks = nn.Sequential(Block(dim, heads), Block(dim, heads))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocabulary)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T]` ids."""
        return self.head(self.norm(self.blocks(self.embed(x) + self.place))).transpose(1, 2)


def matrices(net: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in net.named_parameters() if name.startswith("blocks") and weight.dim() == 2}


class Rising:
    """Magnitude masks of every matrix at the sparsity of each step, asked once per step."""

    def __init__(self, sparsity: np.ndarray) -> None:
        self.sparsity = sparsity

    def at(self, step: int, total: int) -> Event | None:
        before = self.sparsity[step - 1] if step else 0.0
        if step == total or self.sparsity[step] <= before:
            return None
        return Event("prune", Budget.parse(f"{100 * (1 - self.sparsity[step]):.10g}% weights"))

    @staticmethod
    def masks(event: Event, net: nn.Module) -> dict[str, Tensor]:
        found = {}
        for name, weight in matrices(net).items():
            dropped = round((1 - event.budget.term.amount) * weight.numel())
            mask = torch.ones(weight.numel(), dtype=torch.bool)
            mask[weight.detach().abs().flatten().argsort()[:dropped]] = False
            found[name] = mask.view_as(weight)
        return found


def text(limit: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(ids to train on, ids to test on, vocabulary): the first characters of the training text, and of the test text."""
    place = Path(os.environ["PRUNUS_DATA"]) / "text"
    source = next(path for path in sorted(place.rglob("*.txt")) if "shakespeare" in path.name.lower())
    found = source.read_text("utf-8")[:limit]
    letters = {letter: at for at, letter in enumerate(sorted(set(found)))}
    ids = np.array([letters[letter] for letter in found])
    cut = int(len(ids) * 0.9)
    return ids[:cut], ids[cut:], len(letters)


def windows(ids: np.ndarray) -> tuple[Tensor, Tensor]:
    count = (len(ids) - 1) // WINDOW
    x, y = (torch.from_numpy(ids[shift : shift + count * WINDOW].reshape(count, WINDOW)) for shift in (0, 1))
    return x, y


def per_row(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none").mean(1)


def schedules(steps: int) -> dict[str, tuple[str, np.ndarray]]:
    """Arm -> (size, sparsity of each step), all of one compute: that of `steps` steps of the schedule 25-75."""
    dense, twin = (sum(weight.numel() for weight in matrices(Characters(2, *size)).values()) for size in SIZES.values())
    average = 1 - FINAL * 0.625
    found: dict[str, tuple[str, np.ndarray]] = {}
    for name, (begin, end) in RISES.items():
        length = round(steps * average / (1 - FINAL * (1 - end + 0.75 * (end - begin))))
        ends = min(round(end * length), length - 1)  # the last step is the last event, and nothing recovers
        found[name] = "sparse", cubic_sparsity(length, FINAL, begin=round(begin * length), end=ends, every=EVERY)
    found["dense twin"] = "dense twin", np.zeros(round(steps * average * dense / twin))
    first, last = round(0.9 * steps * average), round(0.1 * steps * average / (1 - FINAL))
    found["one-shot"] = "sparse", np.repeat([0.0, FINAL], [first, last])
    return found


def main() -> None:
    """One JSON line for each arm and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400, help="of the schedule 25-75")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=400_000, help="characters")
    parser.add_argument("--out", type=Path, default=Path("journey.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    fit_ids, test_ids, vocabulary = text(options.limit)
    rows, (x, y) = windows(fit_ids), windows(test_ids[: 300 * WINDOW + 1])
    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(line["arm"], line["seed"], line["steps_asked"]) for line in lines}
    for seed in range(options.seeds):
        for arm, (size, sparsity) in schedules(options.steps).items():
            if (arm, seed, options.steps) in done:
                continue
            begin, net = time.process_time(), seeded(Characters, seed, vocabulary, *SIZES[size])
            count = sum(weight.numel() for weight in matrices(net).values())
            fit(
                net, rows, steps=len(sparsity), optimizer="adamw", lr=3e-3, weight_decay=0.1, warmup=20, batch=BATCH, seed=seed,
                loss_fn=per_row, clip=1.0, events=Rising(sparsity), on_event=Rising.masks, progress=False,
            )  # fmt: skip
            with torch.inference_mode():
                loss = float(
                    torch.cat([per_row(net(part), target) for part, target in zip(x.split(50), y.split(50))]).mean()
                )
            stays = sum(int((weight != 0).sum()) for weight in matrices(net).values())
            line = {"arm": arm, "seed": seed, "steps_asked": options.steps, "steps": len(sparsity), "prunable": count}
            line |= {"stays": stays, "average": round(average_parameters(count, sparsity)), "loss": round(loss, 4)}
            line["gflops"] = round(6e-9 * line["average"] * len(sparsity) * BATCH * WINDOW, 2)
            line["cpu_seconds"] = round(time.process_time() - begin, 1)
            print(json.dumps(line), flush=True)
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
