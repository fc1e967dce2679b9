"""What low ranks cost a small convolutional network on scikit-learn's digits, with and without training after: JSON lines.

Three convolutions (1-16-32-32, the second one of stride 2) with batch norms and a linear layer, trained on 1,000 rows; accuracy on the 797
others. Every arm is cut to the same share of its MACs. `trp` trains while it cuts, so that an arm fine-tuned for as many steps stands
beside it; `l1 channels` removes channels instead. Norms are re-estimated after every cut. Means over seeds, which set the network's start,
the order of rows and the draws; paired with random singular parts.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from paired import table
from sklearn.datasets import load_digits
from torch import Tensor, nn

import prunus as px
from prunus.core.rng import torch_fork
from prunus.train.loop import fit

ARMS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "random": ("ranks/random", {"example": True}, False),
    "svd": ("ranks/svd", {"example": True}, False),
    "svd, spatial": ("ranks/svd", {"example": True, "scheme": "spatial"}, False),
    "svd_llm": ("svd_llm", {"data": True}, False),
    "svd_llm, global": ("svd_llm", {"data": True, "scope": "global"}, False),
    "svd_llm, global, update": ("svd_llm", {"data": True, "scope": "global", "update": True}, False),
    "trp": ("trp", {"data": True, "example": True}, False),
    "random, fine-tuned": ("ranks/random", {"example": True}, True),
    "svd, fine-tuned": ("ranks/svd", {"example": True}, True),
    "l1 channels, fine-tuned": ("l1", {"example": True}, True),
}


def network(seed: int) -> nn.Module:
    """A new one."""
    with torch_fork(seed, "network"):
        return nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
        )


def accuracy(net: nn.Module, rows: tuple[Tensor, Tensor]) -> float:
    """Percent right."""
    with torch.no_grad():
        return 100 * float((net(rows[0]).argmax(1) == rows[1]).double().mean())


def main() -> None:
    """One line for each arm and budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="of TRP, and of fine-tuning")
    parser.add_argument("--budgets", nargs="+", default=["50% macs", "30% macs"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    rows = torch.from_numpy(x[order] / 16).float().reshape(-1, 1, 8, 8), torch.from_numpy(y[order])
    train, test = tuple(part[:1000] for part in rows), tuple(part[1000:] for part in rows)
    nets: list[nn.Module] = []
    for seed in range(args.seeds):
        nets.append(network(seed))
        fit(nets[-1], train, steps=150, batch=64, lr=0.1, seed=seed, progress=False)
    arms: dict[str, list[float]] = {"dense": [accuracy(net, test) for net in nets]}
    for budget in args.budgets:
        found = {name: list(values) for name, values in arms.items() if name == "dense"}
        for name, (method, settings, tuned) in ARMS.items():
            found[name] = []
            for seed, net in enumerate(nets):
                given = {key: value for key, value in settings.items() if key not in ("example", "data")}
                given |= {"example": train[0][:2]} if "example" in settings else {}
                given |= {"data": train} if "data" in settings else {}
                given |= {"steps": args.steps, "batch": 64} if method == "trp" else {}
                small = px.plan(net, method, budget, seed=seed, **given).apply(net)
                how = ["bn_stats", "finetune"] if tuned else ["bn_stats"]
                own = {"steps": args.steps, "batch": 64, "lr": 0.01, "seed": seed} if tuned else {}
                found[name].append(accuracy(px.recover(small, data=train, how=how, **own), test))
        table({"budget": budget}, "accuracy", found, "random")


if __name__ == "__main__":
    main()
