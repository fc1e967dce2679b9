"""Does curation foresee training? Six sets of 200 digits, good and bad, by its metrics and by the accuracy trained on them.

    PYTHONPATH=src python benchmarks/curation_digits.py --seeds 5

From 1,297 of scikit-learn's digits: random rows in equal classes; a long tail (the largest class fifty times the
smallest); a fifth of the labels wrong; five near copies of forty rows; the hardest by EL2N; and CCS. Metrics are of
curation with the pixels as embedding and 250 reference digits; accuracy is that of an MLP 64-128-10 after 400 steps on 250
others. Prints one line of JSON for each set (means over seeds), and Spearman's correlation of each metric with accuracy over
the sets.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
from kept_digits import accuracy, net, scored, split
from scipy.stats import spearmanr

import prunus as px
from prunus.core.rng import Rng
from prunus.flow.rows import plan_rows
from prunus.measure.ground import AIMS, ground
from prunus.prunables.label_noise import symmetric

SIZE = 200
Sets = dict[str, np.ndarray]


def pool(seed: int) -> tuple[px.Dataset, px.Dataset, Any]:
    """(every digit as it is, mislabelled, and with near copies; reference; test inputs and labels)."""
    rows, x, y = split(0.0, seed)
    clean, labels = rows.unwrapped()
    draw = np.random.RandomState(seed)
    copies = (np.repeat(clean[:400], 5, 0) + 0.02 * draw.randn(2000, 64)).astype(np.float32)
    wrong = symmetric(labels, np.arange(len(labels)), 0.2, Rng(seed, "noise"))
    every = np.concatenate([clean, clean, copies]), np.concatenate([labels, wrong, np.repeat(labels[:400], 5)])
    held = px.Dataset((x[:250].numpy(), y[:250]), role="val")
    return px.Dataset(every, name="digits, three ways"), held, (rows, x[250:], y[250:])


def sets(rows: px.Dataset, labels: np.ndarray, seed: int) -> Sets:
    """Ids of each set."""
    rng, n = Rng(seed, "sets"), len(rows)
    tail = (SIZE * np.geomspace(50, 1, 10) / np.geomspace(50, 1, 10).sum()).round().astype(int)
    tail[0] += SIZE - tail.sum()
    classes = [np.flatnonzero(labels == label) for label in range(10)]
    long = [
        members[rng.child(str(c)).sample(members, min(k, members.size))]
        for c, (members, k) in enumerate(zip(classes, tail))
    ]
    short = SIZE - sum(map(len, long))  # the largest class may have too few rows
    long[1] = classes[1][rng.child("1").sample(classes[1], len(long[1]) + short)]
    score = scored(rows, net(200 + seed), "el2n", seed)
    drawn = px.score(rows, "random_balanced", seed=seed)
    chosen = {
        "random_balanced": plan_rows(drawn, f"{SIZE} rows", select="top").keep(),
        "long tail": np.concatenate(long),
        "wrong labels": n + rng.child("wrong").sample(np.arange(n), SIZE),
        "near copies": 2 * n
        + (5 * rng.child("copies").sample(np.arange(400), SIZE // 5)[:, None] + np.arange(5)).reshape(-1),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        chosen["el2n, hardest"] = plan_rows(score, f"{SIZE} rows", select="top").keep()
        chosen["el2n + ccs"] = plan_rows(score, f"{SIZE} rows", select="ccs").keep()
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(parser.parse_args().seeds):
        every, held, (rows, x, y) = pool(seed)
        base = ground(every, reference=held)
        for name, ids in sets(rows, rows.unwrapped()[1], seed).items():
            for metric, (value, _) in base.measure(ids).items():
                found[name][metric].append(value)
            model = net(seed)
            px.fit(model, every.subset(ids), steps=400, seed=seed, lr=0.03, batch=64, progress=False)
            found[name]["accuracy"].append(accuracy(model, x, y))
    means = {
        name: {metric: float(np.mean(values)) for metric, values in lines.items()} for name, lines in found.items()
    }
    for name, line in means.items():
        print(json.dumps({"set": name, **{metric: round(value, 4) for metric, value in line.items()}}))
    trained = [line["accuracy"] for line in means.values()]
    known = [metric for aims in AIMS.values() for metric in aims if all(metric in line for line in means.values())]
    agree = {
        metric: round(float(spearmanr([line[metric] for line in means.values()], trained)[0]), 2) for metric in known
    }
    print(json.dumps({"spearman_with_accuracy": agree, "sets": len(means)}))


if __name__ == "__main__":
    main()
