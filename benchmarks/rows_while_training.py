"""Time to accuracy of rows that change every epoch: full, random, rs2, seta, infobatch, eo-dynamic.

    PYTHONPATH=src python benchmarks/rows_while_training.py --seeds 5
    PYTHONPATH=src python benchmarks/rows_while_training.py --data cifar10 --seeds 3        # hours; not run for the page

digits: 1,297 of scikit-learn's digits to train on, 500 to test; an MLP 64-128-10, SGD with Nesterov momentum, batches of
64, cosine from 0.1 over 40 epochs (each arm's own; the rate goes by the share of epochs done). cifar10: the packed
CIFAR-10 of PRUNUS_DATA, ResNet-8 at 16x16, flips, 20 epochs. Test rows are looked at after each epoch; that
time is not counted. `random` is one random half for all epochs. For each arm: samples presented and CPU-seconds until
90, 95 and 98 % of the full run's final accuracy (mean over the seeds that get there, and how many do), final accuracy,
and the paired difference from `full` after as many samples as the arm used (`at equal samples`: a full run of that many
samples, with its own schedule).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paired
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from prunus.core.rng import torch_fork, uniform
from prunus.rows.dynamic import Dynamic
from prunus.rows.eo_dynamic import EODynamic
from prunus.rows.infobatch import InfoBatch
from prunus.rows.rs2 import RS2
from prunus.rows.sampler import BatchSampler, Sampler
from prunus.rows.seta import SeTa
from prunus.train.augment import flip
from prunus.train.models import mlp, resnet8

SHARES = (0.90, 0.95, 0.98)
Embed = Callable[[np.ndarray], Tensor]
ARMS: dict[str, Callable[[np.ndarray, int, int, Embed], Dynamic]] = {
    "full": lambda ids, epochs, seed, embed: RS2(ids, fraction=1.0, seed=seed),
    "random 50 %": lambda ids, epochs, seed, embed: RS2(
        ids[np.argsort(uniform(seed, "static", ids))[: ids.size // 2]], fraction=1.0, seed=seed
    ),
    "rs2 30 %": lambda ids, epochs, seed, embed: RS2(ids, fraction=0.3, seed=seed),
    "rs2 50 %": lambda ids, epochs, seed, embed: RS2(ids, fraction=0.5, seed=seed),
    "seta": lambda ids, epochs, seed, embed: SeTa(ids, epochs=epochs, seed=seed),
    "infobatch": lambda ids, epochs, seed, embed: InfoBatch(ids, epochs=epochs, seed=seed),
    "infobatch, no rescaling": lambda ids, epochs, seed, embed: InfoBatch(ids, epochs=epochs, seed=seed, rescale=False),
    "eo_dynamic 50 %": lambda ids, epochs, seed, embed: EODynamic(ids, epochs=epochs, seed=seed, embed=embed),
}


@dataclass
class Task:
    """Rows to train on and to test on, the model, and the length of the full run."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    model: Callable[[], nn.Module]
    epochs: int
    batch: int
    augment: Callable[[Tensor, torch.Generator], Tensor] = lambda x, generator: x


@dataclass
class Trace:
    """After each epoch: samples presented, CPU-seconds, test accuracy in percent."""

    samples: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    def until(self, level: float) -> tuple[int, float] | None:
        """Samples and seconds until the accuracy is first at `level`."""
        reached = [at for at, value in enumerate(self.accuracy) if value >= level]
        return (self.samples[reached[0]], self.seconds[reached[0]]) if reached else None


def digits() -> Task:
    data = load_digits()
    order = np.argsort(uniform(0, "split", np.arange(data.target.size)))
    x, y = torch.from_numpy((data.data / 16).astype(np.float32)), torch.from_numpy(data.target.astype(np.int64))
    first, rest = order[:1297], order[1297:]
    return Task(x[first], y[first], x[rest], y[rest], lambda: mlp(64, 128, 10), 40, 64)


def cifar10() -> Task:
    import cifar  # needs the files of PRUNUS_DATA

    (x, y), (test_x, test_y) = (cifar.images(role, 16) for role in ("train", "test"))
    return Task(x, torch.from_numpy(y), test_x, torch.from_numpy(test_y), resnet8, 20, 128, flip)


def embedder(net: nn.Module, x: Tensor) -> Embed:
    """Inputs of the last linear layer, in evaluation mode."""
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]

    def embed(ids: np.ndarray) -> Tensor:
        found: list[Tensor] = []
        handle = last.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
        net.eval()
        with torch.no_grad():
            for rows in torch.from_numpy(ids).split(512):
                net(x[rows])
        handle.remove()
        net.train()
        return torch.cat(found)

    return embed


def run(task: Task, arm: str, seed: int, epochs: int) -> Trace:
    """A plain loop, as a user would write it."""
    with torch_fork(seed, "weights"):
        net = task.model()
    ids = np.arange(len(task.x))
    dynamic = ARMS[arm](ids, epochs, seed, embedder(net, task.x))
    loader = BatchSampler(Sampler(dynamic, ids, seed=seed), task.batch)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    generator, trace, samples, spent = torch.Generator().manual_seed(seed), Trace(), 0, 0.0
    for epoch in range(epochs):
        start = time.process_time()
        net.train()
        length = len(loader)
        for number, rows in enumerate(loader):
            x = task.augment(task.x[rows], generator)
            optimizer.param_groups[0]["lr"] = 0.05 * (1 + np.cos(np.pi * (epoch + number / length) / epochs))
            loss = loader.sampler.loss(ids[rows], F.cross_entropy(net(x), task.y[rows], reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            samples += len(rows)
        spent += time.process_time() - start
        trace.samples.append(samples)
        trace.seconds.append(spent)
        trace.accuracy.append(accuracy(net, task))
    return trace


def accuracy(net: nn.Module, task: Task) -> float:
    net.eval()
    with torch.inference_mode():
        right = [(net(x).argmax(1) == y).sum() for x, y in zip(task.test_x.split(512), task.test_y.split(512))]
    return 100 * float(sum(right)) / len(task.test_y)


def levels(traces: dict[str, list[Trace]]) -> None:
    """Samples and seconds until shares of the full run's final accuracy, seed by seed."""
    for arm, runs in traces.items():
        line: dict[str, Any] = {"arm": arm, "samples": round(float(np.mean([one.samples[-1] for one in runs])))}
        line["cpu_seconds"] = round(float(np.mean([one.seconds[-1] for one in runs])), 2)
        for share in SHARES:
            found = [one.until(share * full.accuracy[-1]) for one, full in zip(runs, traces["full"])]
            there = [one for one in found if one is not None]
            samples, seconds = (np.mean([one[k] for one in there]) if there else np.nan for k in (0, 1))
            line[f"{100 * share:g} %"] = {
                "samples": round(float(samples)) if there else None,
                "cpu_seconds": round(float(seconds), 2) if there else None,
                "reached": f"{len(there)}/{len(runs)}",
            }
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["digits", "cifar10"], default="digits")
    parser.add_argument("--arms", nargs="*", default=[name for name in ARMS if name != "full"])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = {"digits": digits, "cifar10": cifar10}[options.data]()
    traces: dict[str, list[Trace]] = defaultdict(list)
    shorter: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.seeds):
        for arm in ("full", *options.arms):
            traces[arm].append(run(task, arm, seed, task.epochs))
            if arm != "full":
                epochs = max(round(traces[arm][-1].samples[-1] / len(task.x)), 1)
                shorter[arm].append(run(task, "full", seed, epochs).accuracy[-1])
    levels(traces)
    head = {"data": options.data, "epochs": task.epochs}
    finals = {arm: [one.accuracy[-1] for one in runs] for arm, runs in traces.items()}
    paired.table(head, "final accuracy", finals, "full")
    for arm in options.arms:
        paired.table(head, "at equal samples", {"full, shorter": shorter[arm], arm: finals[arm]}, "full, shorter")


if __name__ == "__main__":
    main()
