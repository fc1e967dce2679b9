"""Masks found before, while and after training, at equal steps, each beside its two controls. One resumable command:

    PYTHONPATH=src python benchmarks/training_time.py --out runs/training-time.jsonl            # protocol F, about 2 hours
    PYTHONPATH=src python benchmarks/training_time.py --task h --out runs/nightly.jsonl         # ResNet-20, another hour
    PYTHONPATH=src python benchmarks/training_time.py --task digits --out runs/digits.jsonl     # a minute or two
    PYTHONPATH=src python benchmarks/training_time.py --task f --out ... --table                # what there is so far

f: ResNet-8 of width 16 on 8,000 CIFAR-10 images at 16x16, 1,250 steps of 64, SGD 0.1 with 50 steps of warm-up, x0.1 at 1/2
and 3/4, flips and shifts; all 10,000 test images. h: ResNet-20 at 32x32, 10,000 images, 1,560 steps of 128. digits: an
MLP 64-100-10 on 1,000 of scikit-learn's digits, 300 steps of 64; the other 797 to test.

Every arm ends with a training of T steps or less (rewound ones T - k from W_k), whose last step is measured: no best epoch.
Controls of a mask: `shuffled`, as many weights in each matrix at random places, same weights; `fresh`, the same mask with
new weights; both T steps from step 0. What it took to find the mask is in `steps`. Arms whose method is not in the
catalogue are named and left out. One line for each (density, arm, seed); a line that is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paired
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from prunus.core import registry
from prunus.core.rng import torch_fork, uniform
from prunus.flow.while_training import Pruning
from prunus.schedule.cubic import Cubic
from prunus.schedule.event import Schedule
from prunus.schedule.granet import GraNet
from prunus.schedule.iterative import Iterative
from prunus.schedule.one_shot import OneShot
from prunus.schedule.pqi_sap import PqiSap
from prunus.train.augment import flip_shift
from prunus.train.loop import fit
from prunus.train.masks import Masks
from prunus.train.models import CifarResNet, mlp, resnet8, seeded
from prunus.train.ticket import shuffled


@dataclass
class Task:
    """Rows, model, and the training that every arm gets."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    model: Callable[[], nn.Module]
    steps: int
    back: int
    training: Mapping[str, Any] = field(default_factory=dict)


def digits() -> Task:
    data = load_digits()
    order = np.argsort(uniform(0, "split", np.arange(data.target.size)))
    x, y = torch.from_numpy((data.data / 16).astype(np.float32)), torch.from_numpy(data.target.astype(np.int64))
    parts = [(x[rows], y[rows]) for rows in (order[:1000], order[1000:])]
    return Task(*parts, lambda: mlp(64, 100, 10), 300, 15, {"batch": 64, "warmup": 15, "schedule": "step"})


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Flipped, and shifted by up to an eighth of the width."""
    return flip_shift(x, generator, pixels=x.shape[-1] // 8)


def images(size: int, rows: int, model: Callable[[], nn.Module], steps: int, back: int, **training: Any) -> Task:
    import cifar  # needs the files of PRUNUS_DATA

    parts = [cifar.images(role, size, limit) for role, limit in (("train", rows), ("test", None))]
    shared = {"schedule": "step", "augment": moved, "channels_last": True, **training}
    return Task(*((x, torch.from_numpy(y)) for x, y in parts), model, steps, back, shared)


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "f": lambda: images(16, 8000, resnet8, 1250, 62, batch=64, warmup=50),
    "h": lambda: images(32, 10000, lambda: CifarResNet(20), 1560, 47, batch=128, warmup=78, weight_decay=1e-4),
}
# density -> seeds; both controls are made at the first density only
DENSITIES = {"digits": {"10%": 5, "3%": 5}, "f": {"10%": 5, "20%": 3, "5%": 3}, "h": {"10%": 3}}
ONLY = {"h": ("granet", "lth-rewind")}

Make = Callable[[str, Task], tuple[Schedule, str, dict[str, Any]]]


def before(method: str, **settings: Any) -> Make:
    """A mask at step 0 from one batch of rows."""
    return lambda budget, task: (OneShot(budget), method, {"within": "all", "data": first_rows(task), **settings})


def first_rows(task: Task) -> tuple[Tensor, Tensor]:
    """Ten rows of each class, the first of them."""
    x, y = task.train
    rows = torch.cat([(y == label).nonzero().flatten()[:10] for label in y.unique()])
    return x[rows], y[rows]


ARMS: dict[str, Make] = {
    "random-ERK": lambda budget, task: (GraNet(budget, initial=share(budget), exchange=0.0), "magnitude", {}),
    "snip": before("snip"),
    "grasp": before("grasp"),
    "synflow": before("synflow"),
    "agp": lambda budget, task: (Cubic(budget, begin=0.05, every=task.steps // 40), "magnitude", {}),
    "granet": lambda budget, task: (GraNet(budget, every=task.steps // 40), "magnitude", {}),
    "rigl": lambda budget, task: (
        GraNet(budget, initial=share(budget), exchange=0.3, last=0.0, until=0.75, every=task.steps // 40), "magnitude", {}
    ),
    "global-mp": lambda budget, task: (OneShot(budget, when=0.5), "magnitude", {"within": "all"}),
    "lth-rewind": lambda budget, task: (Iterative(budget, rounds=1, to=task.back), "magnitude", {}),
    "lth-iterative": lambda budget, task: (Iterative(budget, rounds=5, to=task.back), "magnitude", {}),
    "pqi-sap": lambda budget, task: (PqiSap(budget, rounds=6, p=1.0, q=2.0, to=task.back), "magnitude", {}),
    "bip": before("bip"),
}  # fmt: skip


def share(budget: str) -> float:
    return float(budget.partition("%")[0]) / 100


def known(arm: str, task: Task) -> bool:
    """Whether the catalogue has the method of an arm."""
    method = ARMS[arm]("50% weights", task)[1]
    return any(found.name == method and found.unit == "weights" for found in registry.methods())


def network(task: Task, seed: int) -> nn.Module:
    """Weights of one seed; the order of rows has another."""
    return seeded(lambda: task.model(), seed)


def trained(task: Task, net: nn.Module, seed: int, masks: Mapping[str, Tensor] | None = None) -> float:
    """Test accuracy in percent after a whole training, dense or under fixed masks."""
    held = None if masks is None else Masks(net, masks)
    fit(
        net, task.train, steps=task.steps, masks=held, seed=seed, order_seed=100 + seed, progress=False, **task.training
    )
    return accuracy(task, net)


def accuracy(task: Task, net: nn.Module) -> float:
    net.eval()
    with torch.inference_mode():
        right = [(net(x).argmax(1) == y).sum() for x, y in zip(task.test[0].split(500), task.test[1].split(500))]
    return 100 * float(sum(right)) / len(task.test[1])


def measure(task: Task, density: str, arm: str, seed: int, controls: tuple[str, ...]) -> dict[str, Any]:
    """One arm and its controls."""
    start, net = time.process_time(), network(task, seed)
    if arm == "dense":
        return {"accuracy": trained(task, net, seed), "steps": task.steps, "cpu_seconds": time.process_time() - start}
    schedule, method, settings = ARMS[arm](f"{density} weights", task)
    whole = getattr(schedule, "whole", lambda length: length)(task.steps)
    example = task.train[0][:1]
    pruning = Pruning(net, schedule, method, total=whole, seed=seed, example=example, **settings)
    pruning.fit(task.train, seed=seed, order_seed=100 + seed, progress=False, **task.training)
    masks = pruning.masks.named
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    row: dict[str, Any] = {"accuracy": accuracy(task, net), "steps": whole, "kept": pruning.masks.density()}
    row |= {"least": min(counts.values()), "cpu_seconds": time.process_time() - start}
    if "shuffled" in controls:
        row["shuffled"] = trained(task, network(task, seed), seed, shuffled(masks, 200 + seed))
    if "fresh" in controls:
        row["fresh"] = trained(task, network(task, 300 + seed), seed, masks)
    return row


def work(job: tuple[str, str, str, int, tuple[str, ...]]) -> dict[str, Any]:
    """In a process of its own: one thread."""
    torch.set_num_threads(1)
    name, density, arm, seed, controls = job
    with torch_fork(seed, "benchmark"):
        row = measure(TASKS[name](), density, arm, seed, controls)
    return {"task": name, "density": density, "arm": arm, "seed": seed, **row}


def jobs(name: str, arms: tuple[str, ...], limit: int | None, done: set[tuple[str, str, int]]) -> list[Any]:
    """What is still to be measured, seed by seed, so that a run that is cut off has whole seeds."""
    found = []
    for place, (density, seeds) in enumerate(DENSITIES[name].items()):
        controls = ("shuffled", "fresh") if place == 0 else ("shuffled",)
        for seed in range(min(seeds, limit or seeds)):
            chosen = (("dense",) if place == 0 else ()) + arms
            found += [(name, density, arm, seed, controls) for arm in chosen if (density, arm, seed) not in done]
    return found


def lines(path: Path, name: str) -> list[dict[str, Any]]:
    """The rows that a file has of a task."""
    rows = [json.loads(text) for text in path.read_text("utf-8").splitlines()] if path.exists() else []
    return [row for row in rows if row["task"] == name]


def table(rows: list[dict[str, Any]]) -> None:
    """Means, and each arm paired with its controls, with dense, and with random-ERK."""
    by: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by[row["density"], row["arm"]][row["seed"]] = row
    for (density, arm), runs in by.items():
        seeds = sorted(runs)
        head = {"density": density, "arm": arm, "seeds": len(seeds)}
        means = {
            key: round(float(np.mean([runs[seed][key] for seed in seeds])), 2)
            for key in ("accuracy", "shuffled", "fresh", "steps", "least", "kept", "cpu_seconds")
            if key in runs[seeds[0]]
        }
        print(json.dumps({**head, **means}), flush=True)
        for control in ("shuffled", "fresh"):
            if control in runs[seeds[0]]:
                values = {name: [runs[s][key] for s in seeds] for name, key in ((control, control), (arm, "accuracy"))}
                paired.table({"density": density}, "accuracy", values, control)
    for density in {density for density, _ in by}:
        shared = {arm: runs for (where, arm), runs in by.items() if where == density}
        seeds = sorted(set.intersection(*(set(runs) for runs in shared.values())))
        arms = {arm: [runs[seed]["accuracy"] for seed in seeds] for arm, runs in shared.items()}
        if "random-ERK" in arms and len(seeds) > 1:
            paired.table({"density": density}, "accuracy", arms, "random-ERK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=list(TASKS), default="f")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="*")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread")
    parser.add_argument("--table", action="store_true", help="only print what the file has")
    options = parser.parse_args()
    if not options.table:
        task = digits()  # arms are looked up by name; no rows are read for that
        asked = tuple(options.arms or ONLY.get(options.task, tuple(ARMS)))
        arms = tuple(arm for arm in asked if known(arm, task))
        print(json.dumps({"left out, not in the catalogue": sorted(set(asked) - set(arms))}), flush=True)
        done = {(row["density"], row["arm"], row["seed"]) for row in lines(options.out, options.task)}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with multiprocessing.get_context("spawn").Pool(options.jobs) as pool, options.out.open("a") as file:
            for row in pool.imap_unordered(work, jobs(options.task, arms, options.seeds, done)):
                print(json.dumps(row), file=file, flush=True)
    table(lines(options.out, options.task))


if __name__ == "__main__":
    main()
