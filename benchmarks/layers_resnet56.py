"""Blocks of ResNet-56 taken out, one shot, nothing recovered: criteria, the greedy search and random blocks. JSON lines.

Blocks that change the shape stay. Criteria and probes see training images; accuracy is of cifar10-jpeg300 test images,
differences are paired over them against the mean of random plans with the same number of blocks, 5 seeds, words corrected
by Holm over the run. Needs PRUNUS_DATA (cifar10/, weights/).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from cifar import correct, resnet, tensors

import prunus as px
from prunus.measure.stats import over_rows, verdicts
from prunus.prunables.model import ModelPrunable

SEEDS = 5
ARMS: dict[str, dict[str, Any]] = {
    "block_influence": {},
    "cka": {},
    "layer_lottery": {"by": "grasp"},
    "layer_lottery (snip)": {"by": "snip"},
    "layer_lottery (l1)": {"by": "l1"},
    "blockpruner": {},
    "blockpruner (once)": {"once": True},
}


def main() -> None:
    """The dense model, the random plans, then one line for each way to choose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--fit", type=int, default=128, help="training images for criteria and probes")
    parser.add_argument("--drop", type=int, default=5, help="blocks that go")
    args = parser.parse_args()
    net = resnet(56)
    calib = tensors("train", args.fit)
    prunable, budget = ModelPrunable(net, calib[0][:1]), f"drop {args.drop} layers"
    x, y = tensors("test", args.test)
    dense = correct(net, x, y)
    plans = [px.plan(prunable, "layers/random", budget, seed=seed) for seed in range(SEEDS)]
    random = np.mean([correct(prunable.apply(plan), x, y) for plan in plans], axis=0)
    head = {"data": "cifar10-jpeg300", "test": args.test, "fit": args.fit, "budget": budget}
    shares = {"dense": round(100 * float(dense.mean()), 2), "random": round(100 * float(random.mean()), 2)}
    print(json.dumps({**head, **shares}), flush=True)
    lines, gaps = [], []
    for arm, options in ARMS.items():
        start = time.process_time()
        plan = px.plan(prunable, f"layers/{arm.split(' ')[0]}", budget, data=calib, **options)
        spent = time.process_time() - start
        found = correct(prunable.apply(plan), x, y)
        gap = over_rows(found.astype(float), random)
        low, high = gap.interval or (0.0, 0.0)
        told = {"accuracy": found.mean(), "difference": gap.mean, "low": low, "high": high}
        lines.append(
            {"arm": arm, **{k: round(100 * float(v), 2) for k, v in told.items()}, "cpu_seconds": round(spent, 1)}
        )
        gaps.append(gap)
    for line, word in zip(lines, verdicts(gaps, better="higher")):
        print(json.dumps({**line, "verdict": "below random" if word == "worse" else word}))


if __name__ == "__main__":
    main()
