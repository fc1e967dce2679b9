"""DUAL, Dyn-Unc, DeepFool, VoG and label quality beside random-balanced rows: digits, equal steps, clean and with wrong labels.

    PYTHONPATH=src python benchmarks/criteria_digits.py --keep 0.5 0.3 0.1 --seeds 5

1,297 of scikit-learn's digits to train on, 500 to test; an MLP 64-128-10, SGD with Nesterov momentum, cosine from 0.1, 600
steps for every arm. One run of the same kind over all rows (54 epochs) gives every signal but the held-out probabilities,
which five more give. The first line of each share of wrong labels says how VoG and difficulty go together. `suspects out,
random` draws among the rows that px.label_issues does not call. Prints one line of JSON for each arm: mean test
accuracy, paired difference from random-balanced with its 95 % interval, and the verdict.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
import paired
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

import prunus as px
from prunus.core import registry
from prunus.core.rng import Rng, torch_fork, uniform
from prunus.flow.label_issues import label_issues
from prunus.flow.rows import plan_rows
from prunus.prunables.label_noise import symmetric
from prunus.signals.rowset import Signals
from prunus.train.loop import fit
from prunus.train.models import mlp

CONTROL = "random_balanced"
SETTINGS: dict[str, Any] = {"lr": 0.1, "batch": 128, "progress": False}
ARMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    CONTROL: (CONTROL, "top", {}),
    "random": ("random", "top", {}),
    "dual": ("dual", "top", {}),
    "dual + beta": ("dual", "beta", {}),
    "dyn_unc": ("dyn_unc", "top", {}),
    "deepfool, nearest": ("deepfool", "top", {}),
    "deepfool + ccs": ("deepfool", "ccs", {}),
    "vog, hardest": ("vog", "top", {}),
    "vog + ccs": ("vog", "ccs", {}),
    "label_quality, best": ("label_quality", "top", {"keep": "easiest"}),
    "label_quality + ccs": ("label_quality", "ccs", {}),
    "aum, hardest": ("aum", "top", {}),
}
SUSPECTS = "suspects out, random"


def split(noise: float, seed: int) -> tuple[px.Dataset, torch.Tensor, np.ndarray]:
    """Training rows, test inputs and test labels."""
    digits = load_digits()
    order = np.argsort(uniform(0, "split", np.arange(digits.target.size)))
    x, y = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    first, rest = order[:1297], order[1297:]
    labels = symmetric(y[first], np.arange(1297), noise, Rng(seed, "noise")) if noise else y[first]
    return px.Dataset((x[first], labels), name="digits"), torch.from_numpy(x[rest]), y[rest]


def measured(data: px.Dataset, seed: int) -> Signals:
    """What one run over all rows and five over four fifths of them show."""
    needs = {name for method, select, _ in ARMS.values() for name in _needs(method, select)} - {"embedding", "labels"}
    made = px.Fit(lambda: mlp(64, 128, 10), steps=600, seeds=(seed,), settings=SETTINGS)
    return made.run(data, {*needs, "held_out_probs", "el2n_sum"})[0].merge(Signals(data.ids, labels=data.labels))


def _needs(method: str, select: str) -> set[str]:
    found = registry.find(method, unit="rows", kind="criterion"), registry.find(select, kind="selector")
    return {name for one in found for name in one.needs}


def kept(data: px.Dataset, signals: Signals, keep: float, seed: int) -> dict[str, np.ndarray]:
    """Ids that every arm keeps."""
    budget, chosen = f"{100 * keep:g}% rows", {}
    for name, (method, select, options) in ARMS.items():
        score = px.score(data, method, signals=signals, seed=seed)
        chosen[name] = plan_rows(score, budget, select=select, seed=seed, options=options).keep()
    suspects = tuple(label_issues(data, signals=signals, seed=seed).ids.tolist())
    random = px.score(data, "random", seed=seed)
    fits = len(data) - len(suspects) >= round(keep * len(data))
    chosen[SUSPECTS] = px.plan(random, budget, ban=suspects if fits else ()).keep()
    return chosen


def vog_facts(data: px.Dataset, signals: Signals) -> dict[str, float]:
    """Rank correlation of VoG with the summed EL2N, over all rows and within classes; where its hardest 30 % come from."""
    labels, hard = np.asarray(data.labels), signals.el2n_sum.numpy()
    whole = np.asarray(px.score(data, "vog", signals=signals).values["rows"])
    inside = np.asarray(px.score(data, "vog", normalise="class", signals=signals).values["rows"])
    first = labels[np.argsort(-whole)[: round(0.3 * labels.size)]]
    three = np.sort(np.bincount(first, minlength=10))[-3:].sum() / first.size
    return {
        "spearman": float(spearmanr(whole, hard).statistic),
        "spearman_within_classes": float(spearmanr(inside, hard).statistic),
        "share_of_three_classes": float(three),
    }


def accuracy(data: px.Dataset, ids: np.ndarray, test_x: torch.Tensor, test_y: np.ndarray, seed: int) -> float:
    """Of the MLP trained for 600 steps on these rows."""
    with torch_fork(seed, "weights"):
        net = mlp(64, 128, 10)
    batch = -(-ids.size // -(-ids.size // 128))  # equal batches: a last batch of one row would undo the others
    fit(net, data.subset(ids), steps=600, seed=seed, **{**SETTINGS, "batch": batch})
    with torch.inference_mode():
        return float((net(test_x).argmax(1).numpy() == test_y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=float, nargs="*", default=[0.5, 0.3, 0.1])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.2])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    for noise in options.noise:
        found: dict[float, dict[str, list[float]]] = {keep: defaultdict(list) for keep in options.keep}
        facts: list[dict[str, float]] = []
        for seed in range(options.seeds):
            data, test_x, test_y = split(noise, seed)
            signals = measured(data, seed + 100)
            facts.append(vog_facts(data, signals))
            for keep in options.keep:
                for name, ids in kept(data, signals, keep, seed).items():
                    found[keep][name].append(accuracy(data, ids, test_x, test_y, seed + 1000))
        means = {name: round(float(np.mean([fact[name] for fact in facts])), 3) for name in facts[0]}
        print(json.dumps({"figure": "vog and difficulty", "noise": noise, "seeds": options.seeds, **means}), flush=True)
        for keep, arms in found.items():
            paired.table({"data": "digits", "keep": keep, "noise": noise, "steps": 600}, "accuracy", arms, CONTROL)


if __name__ == "__main__":
    main()
