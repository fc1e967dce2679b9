"""Which features does a pruned network, or one trained on pruned rows, still use? Rows with known features (Shah et al. 2020).

    PYTHONPATH=src python benchmarks/simplicity.py

LMS-5: one linear feature and nine of five slabs, each always right; and the same with 10 % of the linear feature wrong.
A 10-64-64-2 network is trained on 4,000 rows, pruned by magnitude (and at random, with the same counts) and fine-tuned; and
new networks are trained on 30 % of the rows: the hardest by EL2N, random ones. Means over seeds. JSON, one line for each arm.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

import prunus as px
from prunus.flow.controls import random_like
from prunus.maths.slabs import Slabs, lms
from prunus.measure.reliance import reliance
from prunus.prunables.model import ModelPrunable
from prunus.train.loop import fit
from prunus.train.models import mlp, seeded

BLOCKS = ("linear=0", "slabs=1-9")


def trained(rows: tuple[np.ndarray, np.ndarray], seed: int, steps: int) -> nn.Module:
    net = seeded(mlp, seed, 10, 64, 64, 2)
    fit(net, rows, steps=steps, lr=0.1, batch=128, weight_decay=5e-5, seed=seed, progress=False)
    return net


def hardest(net: nn.Module, data: Slabs, count: int) -> np.ndarray:
    """Rows with the largest error norm (EL2N) of a network early in training."""
    with torch.inference_mode():
        probs = net(torch.from_numpy(data.x)).softmax(1).numpy()
    return np.argsort(-np.linalg.norm(probs - np.eye(2)[data.y], axis=1), kind="stable")[:count]


def arms(data: Slabs, seed: int, steps: int) -> Iterator[tuple[str, nn.Module]]:
    rows = data.x, data.y
    dense = trained(rows, seed, steps)
    yield "dense", dense
    prunable = ModelPrunable(dense, torch.zeros(1, 10))
    for share in (20, 5, 2):
        plan = px.plan(dense, "magnitude", f"{share}% weights", example=torch.zeros(1, 10))
        for name, made in (("magnitude", plan), ("random", random_like(plan, seed, prunable=prunable))):
            small = px.recover(
                prunable.apply(made), plan=made, data=rows, how="finetune", steps=steps // 4, lr=0.02, seed=seed, progress=False
            )  # fmt: skip
            yield f"{name}, {share} % of the weights", small
    count = round(0.3 * len(data.y))
    early = trained(rows, seed + 100, steps // 10)
    draw = np.random.RandomState(seed).permutation(len(data.y))[:count]
    for name, kept in (("el2n hardest", hardest(early, data, count)), ("random", draw)):
        yield f"{name}, 30 % of the rows", trained((data.x[kept], data.y[kept]), seed, steps)


def main() -> None:
    """One line for each data set and arm."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for noise in (0.0, 0.1):
        found: dict[str, list[list[float]]] = {}
        for seed in range(options.seeds):
            data, test = (lms(n, 5, 10, noise=noise, seed=s) for n, s in ((options.rows, seed), (2000, seed + 1000)))
            for arm, net in arms(data, seed, options.steps):
                told = reliance(copy.deepcopy(net), (test.x, test.y), blocks=BLOCKS)
                names = ("accuracy", "reliance@linear", "reliance@slabs", "auc_only@linear", "auc_only@slabs")
                found.setdefault(arm, []).append([told[name][0] for name in names])
        for arm, values in found.items():
            mean, low, high = (np.round(f(values, 0), 3).tolist() for f in (np.mean, np.min, np.max))
            line = dict(zip(names, mean)) | {"of_linear": [low[1], high[1]], "of_slabs": [low[2], high[2]]}
            print(json.dumps({"noise": noise, "arm": arm, "seeds": options.seeds, **line}), flush=True)


if __name__ == "__main__":
    main()
