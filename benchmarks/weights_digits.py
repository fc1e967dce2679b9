"""What masks and updates of single weights cost a small network on scikit-learn's digits, without any training after: JSON.

64-128-64-10 with relu, trained on 1,000 rows; calibration on 256 of them (16 to a batch for gradients), accuracy on the 797 others.
Every layer loses the same share; the Fisher-based methods cut over all layers, as published. Means over seeds, which set the network's
start and the draws; random weights and magnitude stand beside. The
 domain of d_pruner is the digits 0 to 4: accuracy on them, and on the rest.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from prunus.core import registry
from prunus.core.budget import Budget
from prunus.flow.search import plan_search
from prunus.flow.weights import plan_weights
from prunus.prunables.model import ModelPrunable

Rows = tuple[Tensor, Tensor]
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "magnitude, each layer": ("magnitude", {}),
    "magnitude, all layers": ("magnitude", {"within": "all"}),
    "magnitude + least_squares": ("magnitude", {"compensate": "least_squares"}),
    "wanda": ("wanda", {"within": "output"}),
    "wanda + least_squares": ("wanda", {"within": "output", "compensate": "least_squares"}),
    "ria": ("ria", {"within": "output"}),
    "dsnot": ("dsnot", {}),
    "sparsegpt": ("sparsegpt", {}),
    "alps": ("alps", {}),
    "obert, block 1": ("obert", {"fisher_block": 1, "options": {"damp": 0.1}}),
    "obert, mask only": ("obert", {"compensate": "none", "fisher_block": 64, "options": {"damp": 0.1}}),
    "obert, released update": ("obert", {"fisher_block": 64, "options": {"damp": 0.1, "joint": False}}),
    "obert, joint update": ("obert", {"fisher_block": 64, "options": {"damp": 0.1}}),
    "obert, joint, runs of 4": ("obert", {"fisher_block": 64, "options": {"damp": 0.1, "group": 4}}),
    "obert, joint, 8 steps": ("obert", {"fisher_block": 64, "options": {"damp": 0.1}, "steps": 8}),
    "d_pruner": ("d_pruner", {"within": "output"}),
    "icbs, always": ("icbs", {"options": {"accept": "always"}}),
    "icbs": ("icbs", {}),
}

SIDED = ("random", "magnitude, each layer", "wanda", "wanda on the domain", "d_pruner")


def trained(fit: Rows, seed: int) -> nn.Module:
    """A network of this seed after 300 steps over all rows."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(net(fit[0]), fit[1]).backward()
        optimizer.step()
    net.zero_grad()
    return net.eval()


def accuracy(net: nn.Module, rows: Rows) -> float:
    """Percent right."""
    with torch.no_grad():
        return 100 * float((net(rows[0]).argmax(1) == rows[1]).double().mean())


def pruned(net: nn.Module, way: str, budget: str, calib: Rows, val: Rows, domain: Rows | None, seed: int) -> nn.Module:
    """The network under the plan of a method."""
    name, settings = WAYS[way]
    found = registry.find(name, unit="weights", kind=("criterion", "solver", "search"))
    prunable = ModelPrunable(net, torch.zeros(1, 64))
    batches = [(calib[0][at : at + 16], calib[1][at : at + 16]) for at in range(0, len(calib[0]), 16)]
    if found.kind == "search":
        steps = {"steps": 60, "block": 64, **settings.get("options", {})}
        plan = plan_search(prunable, found, Budget.parse(budget), data=calib, val=val, seed=seed, options=steps)
    else:
        if "general" in found.facts and domain is not None:
            settings, batches = {**settings, "general": batches}, [domain]
        plan = plan_weights(prunable, found, Budget.parse(budget), data=batches, seed=seed, **settings)
    return prunable.apply(plan)


def main() -> None:
    """One line for each method and budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", nargs="+", default=["sparsity 70%", "sparsity 90%"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    rows = torch.from_numpy(x[order] / 16).float(), torch.from_numpy(y[order])
    fit, test = tuple(part[:1000] for part in rows), tuple(part[1000:] for part in rows)
    calib, val = tuple(part[:256] for part in fit), tuple(part[256:512] for part in fit)
    low = calib[1] < 5
    few = calib[0][low], calib[1][low]
    sides = {
        "digits 0-4": tuple(part[test[1] < 5] for part in test),
        "digits 5-9": tuple(part[test[1] >= 5] for part in test),
    }
    nets = [trained(fit, seed) for seed in range(args.seeds)]
    print(
        json.dumps({"way": "dense", "accuracy": round(float(np.mean([accuracy(net, test) for net in nets])), 2)}),
        flush=True,
    )
    for budget in args.budgets:
        for way in [*WAYS, "wanda on the domain"]:
            on_domain = way == "wanda on the domain"
            used, start = "wanda" if on_domain else way, time.process_time()
            domain = few if way == "d_pruner" else None
            small = [
                pruned(net, used, budget, few if on_domain else calib, val, domain, seed)
                for seed, net in enumerate(nets)
            ]
            seconds = (time.process_time() - start) / args.seeds
            got = np.array([accuracy(one, test) for one in small])
            line = {"budget": budget, "way": way, "accuracy": round(got.mean(), 2), "sd": round(got.std(ddof=1), 2)}
            for side, part in (
                sides.items()
                if way in ("wanda", "d_pruner", "wanda on the domain", "magnitude, each layer", "random")
                else ()
            ):
                line[side] = round(float(np.mean([accuracy(one, part) for one in small])), 2)
            print(json.dumps({**line, "cpu_seconds": round(seconds, 2)}), flush=True)


if __name__ == "__main__":
    main()
