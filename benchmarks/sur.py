"""Sparse uniform replay beside random rows: how like the whole class the kept rows are, and what is learnt from them.

    PYTHONPATH=src python benchmarks/sur.py

Digits: 1,297 to train on, 500 to test; MLP 64-128-10, 600 steps for every arm; embedding, stability (tiles of two pixels)
and the loss come from a proxy after 150 steps; all arms select inside classes. Then one class of cifar10-jpeg300: features
of the given ResNet-20 for 5,000 images, 100 kept. Distances are squared MMD between the kept rows of a class and all of
it, with a Gaussian kernel as wide as the median distance, times 1,000, and the length of the difference of the two means.
Needs PRUNUS_DATA for the second part.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import cifar
import numpy as np
import paired
import torch
from sklearn.datasets import load_digits

from prunus.core.rng import Rng, uniform
from prunus.core.score import GroupScore
from prunus.select.ccs import ccs
from prunus.select.herding import herding
from prunus.select.k_center import k_center
from prunus.select.moderate import moderate
from prunus.select.random import random
from prunus.select.sur import sur
from prunus.signals.collect import collect
from prunus.signals.rowset import Signals
from prunus.train.loop import fit
from prunus.train.models import mlp, seeded

CAT = 3
Arms = dict[str, Callable[[GroupScore, int, int], np.ndarray]]


def without_stability(score: GroupScore) -> GroupScore:
    fields = {name: score.signals.field(name) for name in score.signals.names if name not in ("stability", "probs")}
    return GroupScore(score.values, score.ids, score.sense, Signals(score.ids, **fields), score.name)


def arms(within: str) -> Arms:
    """Selectors of (score, count, seed) -> positions, by what they are called in the tables."""
    options = {"within": within}
    return {
        "random balanced": lambda s, m, seed: random(s, m, rng=Rng(seed, "random"), **options),
        "sur": lambda s, m, seed: sur(s, m, **options),
        "sur key=dot": lambda s, m, seed: sur(s, m, key="dot", **options),
        "sur without stability": lambda s, m, seed: sur(without_stability(s), m, **options),
        "sur rule=center": lambda s, m, seed: sur(s, m, rule="center", **options),
        "sur rule=moderate": lambda s, m, seed: sur(s, m, rule="moderate", **options),
        "sur rule=hard": lambda s, m, seed: sur(s, m, rule="hard", **options),
        "moderate": lambda s, m, seed: moderate(s, m, **options),
        "ccs": lambda s, m, seed: ccs(s, m, rng=Rng(seed, "ccs"), **options),
        "herding": lambda s, m, seed: herding(s, m, **options),
        "k_center": lambda s, m, seed: k_center(s, m, rng=Rng(seed, "k_center"), **options),
    }


class Kernel:
    """Squared MMD of some rows to all, with the kernel of all rows summed once."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x.astype(np.float64)
        few = self.x[:: max(len(x) // 500, 1)]
        self.width = float(np.median(self._squares(few, few)[np.triu_indices(len(few), 1)]))
        self.whole = np.mean(
            [self._values(part, self.x).mean(1).mean() for part in np.array_split(self.x, max(len(x) // 500, 1))]
        )

    @staticmethod
    def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum((a * a).sum(1)[:, None] - 2 * a @ b.T + (b * b).sum(1), 0)

    def _values(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-self._squares(a, b) / self.width)

    def apart(self, kept: np.ndarray) -> dict[str, float]:
        part = self.x[kept]
        mmd = self._values(part, part).mean() - 2 * self._values(part, self.x).mean() + self.whole
        return {
            "mmd2 x 1000": 1000 * float(mmd),
            "error of the mean": float(np.linalg.norm(part.mean(0) - self.x.mean(0))),
        }


def apart(x: np.ndarray, labels: np.ndarray, kept: np.ndarray, kernels: dict[int, Kernel]) -> dict[str, float]:
    """Mean over the classes."""
    found: list[dict[str, float]] = []
    for label, kernel in kernels.items():
        mine = np.flatnonzero(labels == label)
        found.append(kernel.apart(np.flatnonzero(np.isin(mine, kept))))
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def digits(keep: float, seeds: int, steps: int) -> None:
    """Accuracy and distances of every arm."""
    data = load_digits()
    order = np.argsort(uniform(0, "split", np.arange(data.target.size)))
    x = (data.images / 16).astype(np.float32)[order, None]
    y = data.target.astype(np.int64)[order]
    x, y, test_x, test_y = x[:1297], y[:1297], torch.from_numpy(x[1297:]), y[1297:]
    found: dict[str, dict[str, list[float]]] = {}
    seconds: dict[str, float] = {}
    for seed in range(seeds):
        score = measured(x, y, seed)
        embedding = score.signals.embedding.numpy()
        kernels = {int(label): Kernel(embedding[y == label]) for label in np.unique(y)}
        for name, select in arms("class").items():
            begin = time.process_time()
            kept = select(score, int(keep * y.size), seed)
            seconds[name] = time.process_time() - begin
            net = trained(x[kept], y[kept], seed + 1000, steps)
            with torch.inference_mode():
                right = 100 * float((net(test_x).argmax(1).numpy() == test_y).mean())
            for metric, value in {"accuracy": right, **apart(embedding, y, kept, kernels)}.items():
                found.setdefault(metric, {}).setdefault(name, []).append(value)
    for metric, values in found.items():
        better = "higher" if metric == "accuracy" else "lower"
        paired.table({"data": "digits", "keep": keep, "steps": steps}, metric, values, "random balanced", better=better)


def trained(x: np.ndarray, y: np.ndarray, seed: int, steps: int) -> torch.nn.Module:
    net = seeded(mlp, seed, 64, 128, 10)
    batch = -(-y.size // -(-y.size // 128))  # equal batches: a last batch of one row would undo the others
    fit(net, (np.arange(y.size), x, y), steps=steps, lr=0.1, batch=batch, seed=seed, progress=False)
    return net


def measured(x: np.ndarray, y: np.ndarray, seed: int) -> GroupScore:
    """The rows with what a short run of a proxy says of them; the score is their loss."""
    rows = (torch.from_numpy(x), torch.from_numpy(y))
    signals = collect(
        trained(x, y, seed, 150), rows, ("embedding", "stability", "loss"), batch=256, progress=False
    ).rows
    assert signals is not None
    return GroupScore(signals.loss.numpy(), signals.ids, "hard", signals, "digits")


def one_class(count: int, seeds: int, rows: int) -> None:
    """Distances of every arm on features of one class of CIFAR-10."""
    x, y = cifar.images("train")
    x = x[np.flatnonzero(y == CAT)[:rows]]
    labels = torch.full((len(x),), CAT)
    begin = time.process_time()
    signals = collect(cifar.resnet(), (x, labels), ("embedding", "stability", "loss"), batch=250, progress=False).rows
    assert signals is not None
    spent = round(time.process_time() - begin, 1)
    score = GroupScore(signals.loss.numpy(), signals.ids, "hard", signals, "cats")
    kernel = Kernel(signals.embedding.numpy())
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        for name, select in arms("all").items():
            for metric, value in kernel.apart(select(score, count, seed)).items():
                found.setdefault(metric, {}).setdefault(name, []).append(value)
    for metric, values in found.items():
        head = {"data": "cifar10-jpeg300, cats", "rows": len(x), "count": count, "signals_cpu_seconds": spent}
        paired.table(head, metric, values, "random balanced", better="lower")


def main() -> None:
    """One line for each arm and metric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.1], help="shares of the digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--count", type=int, default=100, help="images kept of one class")
    parser.add_argument("--rows", type=int, default=5000, help="images of one class; 0 = digits only")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    for keep in options.keep:
        digits(keep, options.seeds, options.steps)
    if options.rows:
        one_class(options.count, options.seeds, options.rows)


if __name__ == "__main__":
    main()
