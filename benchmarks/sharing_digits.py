"""Parameter sharing beside pruning at the start, at the same number of stored weights, on scikit-learn's digits: JSON lines.

A 64-128-64-10 network, trained from the start for as many steps in every arm on 1,000 rows, accuracy on the 797 others. Random pruning
keeps single weights (its places are not counted); `small` is a dense network with narrower layers and about as many weights. Means over
seeds, paired with random pruning.
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
from prunus.flow.recover import masks_of
from prunus.train.loop import fit
from prunus.train.masks import Masks

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "random pruning": ("random", {"within": "group"}),
    "stable_rps": ("stable_rps", {}),
    "stable_rps, v5": ("stable_rps", {"rule": "v5"}),
    "hashed places, no gradient rule": ("stable_rps", {"mapper": "hashed", "rule": "none"}),
    "stable_rps, half width 1": ("stable_rps", {"half_width": 1.0}),
    "half width 1, no gradient rule": ("stable_rps", {"half_width": 1.0, "rule": "none"}),
}


def network(seed: int, wide: int = 128, narrow: int = 64) -> nn.Module:
    """A new one."""
    with torch_fork(seed, "network"):
        return nn.Sequential(
            nn.Linear(64, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU(), nn.Linear(narrow, 10)
        )  # fmt: skip


def main() -> None:
    """One line for each arm and share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=0.3)
    parser.add_argument("--shares", nargs="+", type=float, default=[100, 10, 3, 1])
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    rows = torch.from_numpy(x[order] / 16).float(), torch.from_numpy(y[order])
    train, test = tuple(part[:1000] for part in rows), tuple(part[1000:] for part in rows)

    def trained(net: nn.Module, seed: int, masks: dict[str, Tensor] | None = None) -> float:
        given = None if masks is None else Masks(net, masks)
        fit(net, train, steps=args.steps, batch=64, lr=args.lr, seed=seed, masks=given, clip=1.0, progress=False)
        with torch.no_grad():
            return 100 * float((net(test[0]).argmax(1) == test[1]).double().mean())

    dense = [trained(network(seed), seed) for seed in range(args.seeds)]
    total = 64 * 128 + 128 * 64 + 64 * 10
    for share in args.shares:
        found: dict[str, list[float]] = {"dense": dense}
        for name, (method, settings) in ARMS.items():
            if share == 100 and method == "random":
                found[name] = dense
                continue
            found[name] = []
            for seed in range(args.seeds):
                net = network(seed)
                plan = px.plan(net, method, f"{share}% weights", seed=seed, **settings)
                small = plan.apply(net)
                found[name].append(trained(small, seed, masks_of(small, plan)))
        width = max(1, int((-74 + (74**2 + 8 * total * share / 100) ** 0.5) / 4))  # 64 * 2w + 2w * w + 10 w weights
        if share < 100:
            found["small"] = [trained(network(seed, 2 * width, width), seed) for seed in range(args.seeds)]
        table({"share": share}, "accuracy", found, "random pruning")


if __name__ == "__main__":
    main()
