"""ResNet-20 trained a little before channels are cut: no penalty, one on all scales, one on those that go. JSON lines.

Equal steps on training images, then the same budget; accuracy on cifar10-jpeg300 test images right before and right after
the cut, nothing recovered. Controls: random channels with the counts of each arm on the weights trained without penalty,
5 seeds. Words by paired differences over rows, corrected by Holm. Needs PRUNUS_DATA (cifar10/, weights/).
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
from cifar import correct, resnet, tensors
from torch import nn

import prunus as px
from prunus.core.plan import Plan
from prunus.flow.controls import random_like
from prunus.measure.stats import over_rows, verdicts
from prunus.prunables.edits import set_weights
from prunus.prunables.model import ModelPrunable

SEEDS = 5


def main() -> None:
    """One line for each way to train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--fit", type=int, default=5000, help="training images")
    parser.add_argument("--steps", type=int, default=60, help="steps of 128 images")
    parser.add_argument(
        "--strength", type=float, default=0.5, help="of the penalty: strength * lr * steps kills scales"
    )
    parser.add_argument("--budget", default="60% macs", help="what stays")
    args = parser.parse_args()
    net = resnet(20)
    x, y = tensors("test", args.test)
    rows = tensors("train", args.fit)
    prunable = ModelPrunable(net, x[:1])

    def trained(plan: Plan) -> nn.Module:
        model = copy.deepcopy(net)
        set_weights(model, plan.edits)
        return model

    arms: dict[str, dict[str, Any]] = {
        "no penalty": {"steps": args.steps, "strength": 0.0},
        "all scales": {"global_steps": args.steps, "steps": 0, "strength": args.strength},
        "masksparsity": {"steps": args.steps, "strength": args.strength, "rule": "smooth_l1"},
        "masksparsity (official)": {"steps": args.steps, "strength": args.strength, "parity": "official"},
    }
    lines, gaps, plain = [], [], None
    for name, options in arms.items():
        start = time.process_time()
        plan = px.plan(prunable, "masksparsity", args.budget, data=rows, **options)
        spent = time.process_time() - start
        plain = plain or plan
        controls = [replace(random_like(plan, seed), edits=plain.edits) for seed in range(SEEDS)]
        random = np.mean([correct(prunable.apply(one), x, y) for one in controls], axis=0)
        before, after = correct(trained(plan), x, y), correct(prunable.apply(plan), x, y)
        gap = over_rows(after.astype(float), random)
        shares = {"before": before.mean(), "after": after.mean(), "random": random.mean(), "difference": gap.mean}
        shares |= {"macs": plan.planned["macs"] / plan.dense["macs"]}
        line = {"arm": name, **{key: round(100 * float(value), 2) for key, value in shares.items()}}
        lines.append({**line, "cpu_seconds": round(spent, 1)})
        gaps.append(gap)
    head = {"data": "cifar10-jpeg300", "test": args.test, "fit": args.fit, "steps": args.steps, "budget": args.budget}
    print(json.dumps({**head, "strength": args.strength, "dense": round(100 * float(correct(net, x, y).mean()), 2)}))
    for line, word in zip(lines, verdicts(gaps, better="higher")):
        print(json.dumps({**line, "verdict": "below random" if word == "worse" else word}))


if __name__ == "__main__":
    main()
