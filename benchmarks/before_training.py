"""Masks before and while training on scikit-learn's digits, each beside its two controls, at equal steps: JSON, resumable.

A small convolutional net with batch norm on 8x8 digits: 1,000 rows to train, 797 to test. Every arm trains for the same number of
steps in all. Arms before training (random at erk, at even and at magnitude's densities; magnitude, snip, grasp, synflow) prune the
start; arms after it train densely for the first half (the same network for all arms of a seed), prune, and train on for the second. bip
has both levels in its second half, so half as many steps of each; lottery_jackpots searches a mask and norms there.

Controls of each arm, with the same steps: `shuffled` (as many weights of each layer, drawn at random) and `redrawn` (the same mask
over newly drawn weights; after training that means a training of the mask alone, from the start, with the steps of the second half).
`--speed` prints the processor time of SynFlow's 100 rounds on ResNet-20, and the smallest layer at each density.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import prunus as px
from prunus.core.plan import Plan
from prunus.flow.controls import random_like
from prunus.flow.recover import masks_of
from prunus.prunables.model import ModelPrunable
from prunus.train.models import CifarResNet, seeded

EXAMPLE = torch.zeros(1, 1, 8, 8)
BATCH, LR = 100, 0.1
BEFORE: dict[str, tuple[str, dict[str, Any]]] = {
    "random, erk": ("random", {"allocate": "erk"}),
    "random, even": ("random", {"allocate": "uniform"}),
    "magnitude at start": ("magnitude", {"within": "all"}),
    "snip": ("snip", {}),
    "grasp": ("grasp", {}),
    "synflow": ("synflow", {}),
}
AFTER: dict[str, tuple[str, dict[str, Any]]] = {
    "global magnitude + fine-tune": ("magnitude", {"within": "all"}),
    "bip": ("bip", {}),
    "lottery_jackpots": ("lottery_jackpots", {}),
}


class Net(nn.Module):
    """Three convolutions with norms, and a linear head: 10,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.c2, self.b2 = nn.Conv2d(16, 24, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(24)
        self.c3, self.b3 = nn.Conv2d(24, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b2(self.c2(self.b1(self.c1(x)).relu())).relu()
        return self.head(self.b3(self.c3(x)).relu().mean((2, 3)))


class Digits:
    """Rows of the benchmark."""

    def __init__(self) -> None:
        x, y = load_digits(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(x))
        x, y = (x[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8), y[order]
        self.fit = px.Dataset((x[:1000], y[:1000]), role="fit", name="digits")
        self.test = torch.from_numpy(x[1000:]), torch.from_numpy(y[1000:])
        first = np.concatenate([np.flatnonzero(y[:1000] == digit)[:10] for digit in range(10)])
        self.balanced = px.Dataset((x[first], y[first]), role="fit", name="balanced")


def accuracy(net: nn.Module, rows: tuple[Tensor, Tensor]) -> float:
    """Percent right."""
    with torch.no_grad():
        return 100 * float((net.eval()(rows[0]).argmax(1) == rows[1]).double().mean())


def trained(net: nn.Module, plan: Plan | None, data: Digits, steps: int, seed: int, lr: float = LR) -> nn.Module:
    """The net after so many steps under the masks of a plan."""
    masks = masks_of(net, plan)
    px.fit(net, data.fit, steps=steps, batch=BATCH, lr=lr, seed=seed, masks=px.Masks(net, masks) if masks else None)
    return net


def planned(net: nn.Module, way: tuple[str, dict[str, Any]], budget: str, data: Digits, seed: int, **more: Any) -> Plan:
    """The plan of an arm."""
    name, settings = way
    rows = data.fit if name in ("bip", "lottery_jackpots") else data.balanced
    given = {"data": rows} if name not in ("random", "magnitude", "synflow") else {}
    return px.plan(net, name, budget, example=EXAMPLE, seed=seed, **{**given, **settings, **more})


def before(arm: str, budget: str, data: Digits, steps: int, seed: int) -> dict[str, float]:
    """Accuracies of an arm before training and of its controls."""
    start = seeded(Net, seed)
    plan = planned(start, BEFORE[arm], budget, data, seed)
    shuffled = random_like(plan, seed, prunable=ModelPrunable(start, EXAMPLE))
    fresh = seeded(Net, seed + 1000)
    mine = {"found": (start, plan), "shuffled": (seeded(Net, seed), shuffled), "redrawn": (fresh, plan)}
    return {name: accuracy(trained(net, one, data, steps, seed), data.test) for name, (net, one) in mine.items()}


def after(arm: str, budget: str, data: Digits, steps: int, seed: int) -> dict[str, float]:
    """Accuracies of an arm after a dense training, and of its controls."""
    half = steps // 2
    dense = trained(seeded(Net, seed), None, data, half, seed)
    name, _ = AFTER[arm]
    more = {
        "bip": {"steps": half // 2, "lr": 0.05, "batch": BATCH},
        "lottery_jackpots": {"steps": half, "batch": BATCH},
    }
    plan = planned(dense, AFTER[arm], budget, data, seed, **more.get(name, {}))
    found = plan.apply(dense)
    if name == "magnitude":
        found = trained(found, plan, data, half, seed, 0.05)
    other = random_like(plan, seed, prunable=ModelPrunable(dense, EXAMPLE))
    shuffled = other.apply(dense)
    if name == "lottery_jackpots":  # weights stay frozen in the control, too: its norms adapt
        shuffled = px.recover(shuffled, data=data.fit, how="finetune", steps=half, lr=LR, norms_only=True, plan=other)
    else:
        shuffled = trained(shuffled, other, data, half, seed, 0.05)
    fresh = trained(seeded(Net, seed + 1000), plan, data, half, seed)
    pairs = {"found": found, "shuffled": shuffled, "redrawn": fresh}
    return {key: accuracy(net, data.test) for key, net in pairs.items()}


def dense_arm(data: Digits, steps: int, seed: int) -> dict[str, float]:
    """The dense net with all steps."""
    return {"found": accuracy(trained(seeded(Net, seed), None, data, steps, seed), data.test)}


def speed() -> None:
    """Processor time of SynFlow on ResNet-20, and the smallest kept count of a layer at each density."""
    net, example = seeded(CifarResNet, 0), torch.zeros(1, 3, 32, 32)
    for density in (0.316, 0.1, 0.0316, 0.01, 0.00316, 0.001):
        start = time.process_time()
        plan = px.plan(net, "synflow", f"{100 * density:g}% weights", example=example, floor=0)
        seconds, least = time.process_time() - start, min(one.count for one in plan.groups.values())
        once = px.plan(net, "magnitude", f"{100 * density:g}% weights", within="all", minimum=0, floor=0)
        line = {"density": density, "cpu_seconds": round(seconds, 2), "smallest layer, synflow": least}
        print(
            json.dumps({**line, "smallest layer, magnitude": min(one.count for one in once.groups.values())}),
            flush=True,
        )


def table(path: Path) -> None:
    """Means, standard deviations, and the gap to each control with its paired 95 % interval."""
    from scipy import stats

    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for budget in dict.fromkeys(line["budget"] for line in lines):
        for arm in dict.fromkeys(line["arm"] for line in lines if line["budget"] == budget):
            own = [line for line in lines if (line["budget"], line["arm"]) == (budget, arm)]
            found = np.array([line["found"] for line in own])
            told = {"budget": budget, "arm": arm, "seeds": len(own), "accuracy": round(found.mean(), 2)}
            for control in ("shuffled", "redrawn"):
                if control in own[0]:
                    gaps = found - np.array([line[control] for line in own])
                    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
                    told[f"minus {control}"] = (
                        f"{gaps.mean():+.2f} [{gaps.mean() - half:+.2f}, {gaps.mean() + half:+.2f}]"
                    )
            print(json.dumps(told))


def main() -> None:
    """One line for each arm, budget and seed; those that are in the file already are not made again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("before_training.jsonl"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--budgets", nargs="+", default=["10% weights", "3% weights"])
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.speed:
        speed()
        return
    data = Digits()
    done = (
        {(line["budget"], line["arm"], line["seed"]) for line in map(json.loads, args.out.open())}
        if args.out.exists()
        else set()
    )
    for seed in range(args.seeds):
        for budget in args.budgets:
            for arm in ("dense", *BEFORE, *AFTER):
                if (budget, arm, seed) in done:
                    continue
                if arm == "dense":
                    found = dense_arm(data, args.steps, seed)
                else:
                    found = (before if arm in BEFORE else after)(arm, budget, data, args.steps, seed)
                with args.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"budget": budget, "arm": arm, "seed": seed, **found}) + "\n")
    table(args.out)


if __name__ == "__main__":
    main()
