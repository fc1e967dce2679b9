"""Coreset selectors beside random and random-balanced rows: digits, equal steps, clean or with wrong labels.

    PYTHONPATH=src python benchmarks/coreset_digits.py --keep 0.3 0.1 --seeds 5

1,297 of scikit-learn's digits to train on, 500 to test; an MLP 64-128-10, SGD with Nesterov momentum, cosine from 0.1, 600
steps for every arm. Embeddings (the input of the last layer) and probabilities come from one proxy of the same kind
after 150 steps. CRAIG and GradMatch run with their weights, scaled to mean 1 over the kept rows, and without. Prints a
line of JSON for every seed and arm, and at the end of every keep one with the means, standard deviations and the mean
difference from random-balanced.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits

from prunus.core.rng import Rng, torch_fork, uniform
from prunus.core.score import GroupScore
from prunus.rows.cal import cal
from prunus.rows.entropy import entropy
from prunus.rows.margin_uncertainty import margin_uncertainty
from prunus.select import craig as craig_module
from prunus.select import grad_match as grad_match_module
from prunus.select.craig import craig
from prunus.select.facility_location import facility_location
from prunus.select.grad_match import grad_match
from prunus.select.graph_cut import graph_cut
from prunus.select.herding import herding
from prunus.select.k_center import k_center
from prunus.select.moderate import moderate
from prunus.select.random import random
from prunus.select.top import top
from prunus.signals.rowset import Signals
from prunus.train.loop import fit

Arm = tuple[np.ndarray, np.ndarray | None, float]
"""Positions, weights, seconds of selecting."""


def split(noise: float, seed: int) -> tuple[np.ndarray, ...]:
    """Training rows (a share of them with wrong labels) and test rows."""
    digits = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    order = np.argsort(uniform(0, "split", np.arange(y.size)))
    fit_rows, test_rows = order[:1297], order[1297:]
    labels = y[fit_rows].copy()
    wrong = np.flatnonzero(uniform(seed, "wrong", np.arange(labels.size)) < noise)
    labels[wrong] = (labels[wrong] + 1 + (uniform(seed, "which", wrong) * 9).astype(np.int64)) % 10
    return x[fit_rows], labels, x[test_rows], y[test_rows]


def trained(x: np.ndarray, y: np.ndarray, seed: int, steps: int, weights: np.ndarray | None = None) -> torch.nn.Module:
    with torch_fork(seed, "weights"):
        net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    batch = -(-y.size // -(-y.size // 128))  # equal batches: a last batch of one row would undo the others
    rows = (np.arange(y.size), x, y)
    fit(net, rows, steps=steps, lr=0.1, batch=batch, seed=seed, weights=weights, progress=False)
    return net


def measured(x: np.ndarray, y: np.ndarray, seed: int) -> GroupScore:
    """The rows with what a short run of a proxy says of them."""
    net = trained(x, y, seed, steps=150)
    with torch.inference_mode():
        hidden = net[:2](torch.from_numpy(x))
        signals = Signals(embedding=hidden.clone(), logits=net[2](hidden).clone(), labels=y)
    return GroupScore(np.zeros(y.size), np.arange(y.size), "hard", signals, "digits")


def timed(select: Callable[[], np.ndarray]) -> Arm:
    begin = time.process_time()
    return select(), None, time.process_time() - begin


def weighted(arm: Arm, weights: Callable[[np.ndarray], np.ndarray]) -> Arm:
    """The same rows with the method's own weights, mean 1."""
    begin = time.process_time()
    found = weights(arm[0])
    return arm[0], found / found.mean(), arm[2] + time.process_time() - begin


def arms(score: GroupScore, count: int, seed: int) -> dict[str, Arm]:
    """What every arm keeps."""
    rng = Rng(seed, "select")
    hard = {method.__name__: method(score.signals).numpy() for method in (margin_uncertainty, entropy, cal)}
    found = {"random": timed(lambda: random(score, count, rng=rng))}
    found["random balanced"] = timed(lambda: random(score, count, within="class", rng=rng))
    for name, values in hard.items():
        given = GroupScore(values, score.ids, "hard", score.signals)
        found[f"{name} class"] = timed(lambda given=given: top(given, count, within="class"))
    for within in ("all", "class"):
        options = {"within": within}
        found |= {
            f"k_center {within}": timed(lambda o=options: k_center(score, count, rng=rng, **o)),
            f"herding {within}": timed(lambda o=options: herding(score, count, **o)),
            f"facility_location {within}": timed(lambda o=options: facility_location(score, count, **o)),
            f"graph_cut {within}": timed(lambda o=options: graph_cut(score, count, **o)),
            f"moderate {within}": timed(lambda o=options: moderate(score, count, **o)),
        }
    found["craig class"] = timed(lambda: craig(score, count))
    found["craig class weighted"] = weighted(found["craig class"], lambda at: craig_module.weights(score, at))
    found["grad_match class"] = timed(lambda: grad_match(score, count))
    found["grad_match class weighted"] = weighted(
        found["grad_match class"], lambda at: grad_match_module.weights(score, at)
    )
    return found | {"full": (score.ids, None, 0.0)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=float, nargs="+", default=[0.3, 0.1])
    parser.add_argument("--noise", type=float, default=0.0, help="share of wrong labels")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    for keep in options.keep:
        head = {"keep": keep, "noise": options.noise, "steps": options.steps}
        accuracy: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            x, y, test_x, test_y = split(options.noise, seed)
            for name, (kept, weights, seconds) in arms(measured(x, y, seed), int(keep * y.size), seed).items():
                net = trained(x[kept], y[kept], seed + 1000, options.steps, weights)
                with torch.inference_mode():
                    right = float((net(torch.from_numpy(test_x)).argmax(1).numpy() == test_y).mean())
                accuracy.setdefault(name, []).append(right)
                row = {"seed": seed, "arm": name, "accuracy": round(right, 4), "select_seconds": round(seconds, 4)}
                print(json.dumps(head | row), flush=True)
        control = np.array(accuracy["random balanced"])
        for name, values in accuracy.items():
            gain = np.array(values) - control
            row = {"arm": name, "seeds": options.seeds, "mean": round(float(np.mean(values)), 4)}
            row |= {"std": round(float(np.std(values)), 4), "over_balanced": round(float(gain.mean()), 4)}
            print(json.dumps(head | row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
