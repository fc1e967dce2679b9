"""Training on what is kept: a teacher that saw every row, loss weights, images packed four to one. Digits, equal steps, 5 seeds.

    PYTHONPATH=src python benchmarks/kept_digits.py --seeds 5

1,297 of scikit-learn's digits to train on, 500 to test. Teachers and weights: an MLP 64-128-10, 600 steps of SGD, kept 5, 10
and 30 %; with `noise` a fifth of the training labels is wrong, and the teacher has learned from them too. Packed images: a
small CNN, 400 steps; arms are of equal storage, so many images of 8 x 8 a class. Seeds vary the noise, the teacher, the
drawn rows and the training; scores and gradients come from a run of 150 steps. Prints one line of JSON for each arm: mean
test accuracy, and the paired difference from random-balanced rows with its 95 % interval and verdict.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paired
import torch
from sklearn.datasets import load_digits
from torch import nn

import prunus as px
from prunus.core.rng import Rng, uniform
from prunus.prunables.label_noise import symmetric
from prunus.train.models import TinyCNN, mlp, seeded

CONTROL = "random_balanced"
LONG: dict[str, Any] = {"lr": 0.03, "batch": 64, "progress": False}
Arms = Iterator[tuple[str, float]]
Data = tuple[px.Dataset, torch.Tensor, np.ndarray]


def split(noise: float, seed: int, *, images: bool = False) -> Data:
    """Training rows, test inputs and test labels."""
    digits = load_digits()
    order = np.argsort(uniform(0, "split", np.arange(digits.target.size)))
    x, y = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    x = x.reshape(-1, 1, 8, 8) if images else x
    first, rest = order[:1297], order[1297:]
    labels = symmetric(y[first], np.arange(1297), noise, Rng(seed, "noise")) if noise else y[first]
    return px.Dataset((x[first], labels), name="digits"), torch.from_numpy(x[rest]), y[rest]


def net(seed: int) -> nn.Module:
    return seeded(mlp, seed, 64, 128, 10)


def accuracy(model: nn.Module, x: torch.Tensor, y: np.ndarray) -> float:
    with torch.no_grad():
        return float((model.eval()(x).argmax(1).numpy() == y).mean())


def scored(rows: px.Dataset, model: nn.Module, name: str, seed: int) -> px.Score:
    """The score of a short run, or of a draw, with what selectors read beside it."""
    px.fit(model, rows, steps=150, seed=seed, **LONG)
    signals = px.collect(model, rows, ("probs", "embedding"), progress=False).rows
    return px.score(rows, name, signals=signals, seed=seed)


def plan(score: px.Score, budget: str, **options: Any) -> px.Plan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return px.plan(score, budget, **options)


def taught(noise: float, keep: float, seed: int) -> Arms:
    """With and without a teacher that was trained on every row."""
    rows, x, y = split(noise, seed)
    teacher = net(100 + seed)
    px.fit(teacher, rows, steps=600, seed=100 + seed, **LONG)
    yield "all rows", accuracy(teacher, x, y)
    kinds = {CONTROL: CONTROL, "el2n, hardest": "el2n"}
    for name, method in kinds.items():
        chosen = plan(scored(rows, net(200 + seed), method, seed), f"{100 * keep:g}% rows", select="top")
        settings = {"plan": chosen, "data": rows, "steps": 600, "seed": seed, **LONG}
        yield name, accuracy(px.recover(net(seed), how="finetune", **settings), x, y)
        for alpha in ("auto", 1.0):
            student = px.recover(net(seed), how="distill", teacher=teacher, alpha=alpha, **settings)
            yield f"{name}, taught (alpha {alpha})", accuracy(student, x, y)


def weighed(noise: float, keep: float, seed: int) -> Arms:
    """Gradient matching with its loss weights and without."""
    rows, x, y = split(noise, seed)
    score = scored(rows, net(200 + seed), "el2n", seed)
    plans = {CONTROL: plan(px.score(rows, CONTROL, seed=seed), f"{100 * keep:g}% rows")}
    for select in ("craig", "grad_match"):
        plans[select] = plan(score, f"{100 * keep:g}% rows", select=select)
        plans[f"{select}, unweighted"] = plan(score, f"{100 * keep:g}% rows", select=select, weights=False)
    for name, chosen in plans.items():
        model = px.recover(net(seed), plan=chosen, data=rows, how="finetune", steps=600, seed=seed, **LONG)
        yield name, accuracy(model, x, y)


def packed(data: Data, make: Callable[[int], nn.Module], ipc: int, settings: dict[str, Any], seed: int) -> Arms:
    """Images of equal storage, so many a class: whole ones, or four times as many at half the size."""
    rows, x, y = data
    score = scored(rows, make(200 + seed), "el2n", seed)
    drawn = px.score(rows, CONTROL, seed=seed)
    few, many = f"{10 * ipc} rows", f"{40 * ipc} rows"
    easiest = {"select": "balanced", "balance": 1.0, "keep": "easiest"}
    arms = {
        CONTROL: (plan(drawn, few), {"how": "finetune"}),
        "prune": (plan(score, few, **easiest), {"how": "finetune"}),
        "prune, combine": (plan(score, many, **easiest), {"how": "combine", "within": "image", "score": score}),
        "prune, combine, augment": (plan(score, many, **easiest), {"how": "combine", "score": score}),
        "random_balanced, combine, augment": (plan(drawn, many), {"how": "combine"}),
        "random_balanced, four times the storage": (plan(drawn, many), {"how": "finetune"}),
    }
    given = {"data": rows, "seed": seed, "progress": False, **settings}
    for name, (chosen, how) in arms.items():
        yield name, accuracy(px.recover(make(seed), plan=chosen, **how, **given), x, y)


def packed_digits(ipc: int, seed: int) -> Arms:
    """The same on 8 x 8 digits, where a tile is 4 x 4."""
    settings = {"steps": 400, "lr": 0.05, "batch": 32}
    yield from packed(split(0.0, seed, images=True), lambda s: seeded(TinyCNN, s, width=16), ipc, settings, seed)


def gathered(make: Any, seeds: int, *given: Any) -> dict[str, list[float]]:
    """Arm -> one accuracy for each seed."""
    found: dict[str, list[float]] = defaultdict(list)
    for seed in range(seeds):
        for name, value in make(*given, seed):
            found[name].append(value)
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.05, 0.1, 0.3])
    parser.add_argument("--ipc", type=int, nargs="+", default=[2, 5])
    parser.add_argument(
        "--only", choices=["taught", "weighed", "packed"], nargs="+", default=["taught", "weighed", "packed"]
    )
    asked = parser.parse_args()
    for noise in (0.0, 0.2):
        for keep in asked.keep if "taught" in asked.only else ():
            paired.table(
                {"what": "taught", "noise": noise, "keep": keep},
                "accuracy",
                gathered(taught, asked.seeds, noise, keep),
                CONTROL,
            )
    for keep in asked.keep if "weighed" in asked.only else ():
        paired.table({"what": "weighed", "keep": keep}, "accuracy", gathered(weighed, asked.seeds, 0.0, keep), CONTROL)
    for ipc in asked.ipc if "packed" in asked.only else ():
        paired.table(
            {"what": "packed", "images_per_class": ipc}, "accuracy", gathered(packed_digits, asked.seeds, ipc), CONTROL
        )


if __name__ == "__main__":
    main()
