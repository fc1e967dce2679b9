"""ResNet-8 of new widths, trained from a new initialisation: where do densities have to come from? JSON lines.

25 % of the parameters stay. Widths from each source of densities, from the same densities dealt out to other layers
(shuffled: the control), and equal shares (uniform). 16x16 cifar10-jpeg300, equal steps, 5 seeds that vary initialisation
and order together; differences to the shuffled arm are paired over seeds, words corrected by Holm. Needs PRUNUS_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from channel_updates import images
from torch import Tensor

import prunus as px
from prunus.measure.stats import over_seeds, verdicts
from prunus.prunables.model import ModelPrunable
from prunus.train.initialise import initialise
from prunus.train.loop import fit
from prunus.train.models import CifarResNet, seeded


def small(path: Path, rows: int) -> tuple[Tensor, Tensor]:
    """16x16 images and labels."""
    x, y = images(path, rows)
    return F.avg_pool2d(x, 2), y


def main() -> None:
    """One line for each arm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--fit", type=int, default=5000, help="training images")
    parser.add_argument("--steps", type=int, default=200, help="steps of 64 images")
    parser.add_argument("--seeds", type=int, default=5, help="initialisations")
    parser.add_argument("--budget", default="25% params", help="what stays")
    args = parser.parse_args()
    data = Path(os.environ.get("PRUNUS_DATA", "../shared/data"))
    rows, (x, y) = small(data / "cifar10/train.parquet", args.fit), small(data / "cifar10/test.parquet", args.test)
    prunable = ModelPrunable(seeded(CifarResNet, 0, depth=8), x[:1])
    sources = ("waterfill", "erk", "synflow")
    plans = {source: px.plan(prunable, "precropping", args.budget, source=source) for source in (*sources, "uniform")}
    densities = plans["waterfill"].provenance["densities"]
    order = np.random.RandomState(0).permutation(len(densities))
    dealt = dict(zip(densities, np.array(list(densities.values()))[order].tolist()))
    plans["shuffled"] = px.plan(prunable, "precropping", args.budget, densities=dealt)
    found: dict[str, dict[int | None, float]] = {}
    told: dict[str, dict[str, Any]] = {}
    for name, plan in plans.items():
        start = time.process_time()
        found[name] = {}
        for seed in range(args.seeds):
            net = initialise(prunable.apply(plan), seed)
            fit(net, rows, steps=args.steps, batch=64, lr=0.1, seed=seed, progress=False)
            with torch.inference_mode():
                found[name][seed] = 100 * float((net(x).argmax(1) == y).float().mean())
        kept = {quantity: plan.planned[quantity] / plan.dense[quantity] for quantity in ("params", "macs")}
        told[name] = {key: round(100 * value, 2) for key, value in kept.items()}
        told[name] |= {"cpu_seconds": round(time.process_time() - start, 1)}
    gaps = {name: over_seeds(values, found["shuffled"]) for name, values in found.items() if name != "shuffled"}
    words = dict(zip(gaps, verdicts(list(gaps.values()), better="higher")))
    print(json.dumps({"data": "cifar10-jpeg300 16x16", **vars(args)}))
    for name, values in found.items():
        gap = {} if name not in gaps else {"difference": round(gaps[name].mean, 2), "verdict": words[name]}
        print(
            json.dumps({"arm": name, "accuracy": round(float(np.mean(list(values.values()))), 2), **told[name], **gap})
        )


if __name__ == "__main__":
    main()
