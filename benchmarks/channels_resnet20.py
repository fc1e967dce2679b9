"""Every criterion over channels on ResNet-20 at 50 % of its MACs, one shot, nothing recovered. One JSON line per figure.

Inner channels of each block only. One calibration pass of 256 training images measures what all criteria and the joint
update read. Each criterion plans by its own ranking over all groups (scope global) or with equal shares in every layer
(scope group), with and without the joint least-squares update; random controls keep as many channels of every layer, with
the same update, 5 seeds. With equal shares all criteria have the same controls. Accuracy is of cifar10-jpeg300 test
images, differences are paired over them against the mean of the controls, and words are corrected by Holm over the run.

Beside them: UDFC's stand-ins, which need no data. Needs PRUNUS_DATA (cifar10/, weights/).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from cifar import correct, resnet, tensors
from torch import Tensor

from prunus.core import registry
from prunus.core.plan import Plan
from prunus.flow.channels import plan_channels
from prunus.flow.controls import random_like
from prunus.flow.signals import module_signals
from prunus.measure.stats import Difference, over_rows, verdicts
from prunus.prunables.model import ModelPrunable
from prunus.signals.modules import ModuleSignals

SEEDS = 5


class Bench:
    """The model, its signals, the test images, and the accuracy of controls that were measured already."""

    def __init__(self, fit: int, test: int) -> None:
        net = resnet(20)
        calib = tensors("train", fit)
        self.prunable = ModelPrunable(net, calib[0][:1])
        self.x, self.y = tensors("test", test)
        self.signals, self.seconds = self._measure(calib)
        self._controls: dict[Any, np.ndarray] = {}

    def _measure(self, calib: tuple[Tensor, Tensor]) -> tuple[ModuleSignals, float]:
        needs = {need for method in criteria() for need in method.needs} | {"hessian"}
        start = time.process_time()
        signals = module_signals(self.prunable, needs, data=calib, what="the benchmark")
        assert signals is not None
        return signals, time.process_time() - start

    def of(self, plan: Plan) -> np.ndarray:
        """Right or wrong, image by image, under a plan."""
        return correct(self.prunable.apply(plan), self.x, self.y)

    def controls(self, plan: Plan) -> np.ndarray:
        """Share of the controls that are right `[images]`; measured once for equal counts and update."""
        counts = tuple((name, kept.count) for name, kept in plan.groups.items())
        key = counts, tuple(plan.provenance["compensate"])
        if key not in self._controls:
            drawn = [random_like(plan, seed, prunable=self.prunable, signals=self.signals) for seed in range(SEEDS)]
            self._controls[key] = np.mean([self.of(one) for one in drawn], axis=0)
        return self._controls[key]


def criteria() -> tuple[registry.Method, ...]:
    """All but the control itself."""
    return tuple(m for m in registry.methods(unit="channels", kind="criterion") if m.name != "random")


def arm(bench: Bench, name: str, update: str, scope: str, budget: str) -> tuple[dict[str, Any], Difference]:
    """One line, and what its word is decided by."""
    settings = {"groups": "inner", "scope": scope, "compensate": update, "signals": bench.signals}
    start = time.process_time()
    plan = plan_channels(bench.prunable, name, budget, **settings)
    spent = time.process_time() - start
    found, random = bench.of(plan), bench.controls(plan)
    gap = over_rows(found.astype(float), random)
    low, high = gap.interval or (0.0, 0.0)
    line = {
        "criterion": name, "update": update, "accuracy": percent(found.mean()), "random": percent(random.mean()),
        "difference": percent(gap.mean), "interval": [percent(low), percent(high)],
        "macs": percent(plan.planned["macs"] / plan.dense["macs"]),
        "params": percent(plan.planned["params"] / plan.dense["params"]), "plan_seconds": round(spent, 2),
    }  # fmt: skip
    return line, gap


def percent(share: float) -> float:
    """With two places."""
    return round(100 * float(share), 2)


def main() -> None:
    """The dense model, then one line for each criterion and update."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--fit", type=int, default=256, help="calibration images")
    parser.add_argument("--scope", choices=("group", "global"), default="group", help="equal shares, or one ranking")
    parser.add_argument("--budget", default="50% macs", help="what stays")
    parser.add_argument("--only", nargs="*", help="names of criteria; all by default")
    args = parser.parse_args()
    bench = Bench(args.fit, args.test)
    head = {"data": "cifar10-jpeg300", "test": args.test, "fit": args.fit, "scope": args.scope, "budget": args.budget}
    dense = percent(correct(bench.prunable.model, bench.x, bench.y).mean())
    print(json.dumps({**head, "dense": dense, "signal_seconds": round(bench.seconds, 1)}), flush=True)
    names = [m.name for m in criteria() if not args.only or m.name in args.only]
    wanted = [(name, update) for name in names for update in ("none", "joint_ls")]
    wanted += [("l1", "udfc")] if "l1" in names else []
    found = [arm(bench, name, update, args.scope, args.budget) for name, update in wanted]
    for (line, _), word in zip(found, verdicts([gap for _, gap in found], better="higher")):
        print(json.dumps({**line, "verdict": "below random" if word == "worse" else word}))


if __name__ == "__main__":
    main()
