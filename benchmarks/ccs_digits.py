"""How much of the hardest to cut before coverage-centric selection: digits, clean and with wrong labels.

    PYTHONPATH=src python benchmarks/ccs_digits.py --keep 0.1 --seeds 3

1,297 of scikit-learn's digits to train on, 500 to test; an MLP 64-128-10, SGD with Nesterov momentum, cosine from 0.1, 600 steps
for every arm. Scores are recorded in one run over all training rows (AUM for the cut, EL2N summed over 5 epochs for
strata and top). Prints one line of JSON with the mean test accuracy of each arm.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits

from prunus.core.rng import Rng, torch_fork, uniform
from prunus.core.score import GroupScore
from prunus.select.ccs import ccs
from prunus.select.random import random
from prunus.select.top import top
from prunus.signals.recorder import Recorder
from prunus.train.loop import fit

CUTS = ("auto", 0.0, 0.1, 0.2, 0.3, 0.4)


def split(noise: float, seed: int) -> tuple[np.ndarray, ...]:
    """Training rows (a share of them with wrong labels) and test rows."""
    digits = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    order = np.argsort(uniform(0, "split", np.arange(y.size)))
    fit_rows, test_rows = order[:1297], order[1297:]
    labels = y[fit_rows].copy()
    wrong = uniform(seed, "wrong", np.arange(labels.size)) < noise
    labels[wrong] = (labels[wrong] + 1 + (uniform(seed, "which", np.flatnonzero(wrong)) * 9).astype(np.int64)) % 10
    return x[fit_rows], labels, x[test_rows], y[test_rows]


def trained(x: np.ndarray, y: np.ndarray, seed: int, record: Recorder | None = None) -> torch.nn.Module:
    with torch_fork(seed, "weights"):
        net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    batch = -(-y.size // -(-y.size // 128))  # equal batches: a last batch of one row would undo the others
    fit(net, (np.arange(y.size), x, y), steps=600, lr=0.1, batch=batch, seed=seed, record=record, progress=False)
    return net


def arms(x: np.ndarray, y: np.ndarray, keep: float, seed: int) -> dict[str, np.ndarray]:
    """Positions kept by every arm."""
    recorder = Recorder(range(y.size), ("aum", "el2n_sum"), ids=np.arange(y.size), el2n_epochs=5)
    trained(x, y, seed, recorder)
    signals, ids, count, rng = recorder.signals(), np.arange(y.size), int(keep * y.size), Rng(seed, "select")
    aum = GroupScore(signals.aum.numpy(), ids, "easy")
    hard = GroupScore(signals.el2n_sum.numpy(), ids, "hard")
    found = {f"ccs {cut}": ccs(hard, count, cut_score=aum, hard_cut=cut, rng=rng) for cut in CUTS}
    found |= {"random": random(hard, count, rng=rng), "hardest": top(hard, count)}
    return found | {"easiest": top(hard, count, keep="easiest"), "full": ids}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.2])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    for noise in options.noise:
        accuracy: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            x, y, test_x, test_y = split(noise, seed)
            for name, kept in arms(x, y, options.keep, seed).items():
                net = trained(x[kept], y[kept], seed + 1000)
                with torch.inference_mode():
                    right = net(torch.from_numpy(test_x)).argmax(1).numpy() == test_y
                accuracy.setdefault(name, []).append(float(right.mean()))
        means = {name: round(float(np.mean(values)), 3) for name, values in accuracy.items()}
        print(json.dumps({"keep": options.keep, "noise": noise, "seeds": options.seeds, "accuracy": means}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
