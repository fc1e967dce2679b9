"""Prune the source, pretrain, fine-tune: which source classes a target needs. cifar10-jpeg300 at 16x16, ResNet-8.

    PYTHONPATH=src python benchmarks/transfer.py

Source: 20 classes, the ten of CIFAR-10 upright and the ten turned by 90 degrees. Target: cat, deer, dog and horse, 200
labelled images of which none is in the source; tested on all their test images. A surrogate, trained on the source for half the
epochs, votes by label mapping and by feature mapping; its rows are scored and planned as any others, the budget being
the rows of 8 classes. Each arm pretrains from new weights for equal epochs and is then fine-tuned as a whole with a new
head. Controls: 8 classes drawn anew for every seed, the classes of fewest votes, all 20 classes, and no pretraining.
Accuracies in percent. Needs PRUNUS_DATA.
"""

from __future__ import annotations

import argparse
import json
import time

import cifar
import numpy as np
import paired
import torch
from torch import Tensor, nn

import prunus as px
from prunus.core.rng import Rng, torch_fork
from prunus.prunables.dataset import Dataset
from prunus.rows import label_mapping
from prunus.signals.collect import collect
from prunus.signals.rowset import Signals
from prunus.train.augment import flip
from prunus.train.loop import fit
from prunus.train.models import resnet8, seeded

TARGET = (3, 4, 5, 7)
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SOURCE = (*NAMES, *(f"{name} turned" for name in NAMES))
BATCH = 64


def split(
    rows: int, few: int
) -> tuple[tuple[Tensor, np.ndarray], tuple[Tensor, np.ndarray], tuple[Tensor, np.ndarray]]:
    """Source rows with labels 0..19; target rows to fine-tune on and test rows with labels 0..3."""
    x, y = cifar.images("train", 16, rows + 10 * few)
    turned = np.arange(rows) % 2 == 1
    source = torch.where(torch.from_numpy(turned)[:, None, None, None], x[:rows].rot90(1, (2, 3)), x[:rows])
    test_x, test_y = cifar.images("test", 16)
    return (source, y[:rows] + 10 * turned), _target(x[rows:], y[rows:], few), _target(test_x, test_y, None)


def _target(x: Tensor, y: np.ndarray, few: int | None) -> tuple[Tensor, np.ndarray]:
    at = np.flatnonzero(np.isin(y, TARGET))[:few]
    return x[at], np.searchsorted(TARGET, y[at])


def pretrained(source: tuple[Tensor, np.ndarray], at: np.ndarray, epochs: float, seed: int) -> nn.Module:
    """A new network after training on some rows of the source, its head over all 20 classes."""
    net = seeded(resnet8, seed, classes=20)
    steps = round(epochs * -(-at.size // BATCH))
    rows = (at, source[0][at], torch.from_numpy(source[1][at]))
    fit(net, rows, steps=steps, lr=0.1, batch=BATCH, seed=seed, augment=flip, progress=False)
    return net


def tuned(net: nn.Module, target: tuple[Tensor, np.ndarray], epochs: int, seed: int) -> nn.Module:
    """The whole network with a new head, trained on the target."""
    with torch_fork(seed, "head"):
        net.linear = nn.Linear(net.linear.in_features, len(TARGET))
    rows = (np.arange(len(target[1])), target[0], torch.from_numpy(target[1]))
    fit(net, rows, epochs=epochs, lr=0.02, batch=50, seed=seed, augment=flip, progress=False)
    return net


def accuracy(net: nn.Module, test: tuple[Tensor, np.ndarray]) -> float:
    with torch.inference_mode():
        guessed = torch.cat([net(part) for part in test[0].split(500)]).argmax(1).numpy()
    return 100 * float((guessed == test[1]).mean())


def chosen(
    source: tuple[Tensor, np.ndarray], target: Tensor, surrogate: nn.Module, classes: int
) -> dict[str, np.ndarray]:
    """Positions of source rows that each rule keeps, through scores and plans."""
    data = Dataset((source[0].numpy(), source[1]), ids=np.arange(len(source[1])), name="source")
    own = collect(surrogate, data, ("embedding",), batch=250, progress=False).rows
    seen = collect(
        surrogate, (target, torch.zeros(len(target), dtype=torch.long)), ("logits", "embedding"), batch=250
    ).rows
    assert own is not None and seen is not None
    other = Signals(logits=seen.logits, embedding=seen.embedding)
    print(json.dumps({"votes": dict(zip(SOURCE, label_mapping.ranking(other).votes.astype(int).tolist()))}))
    found: dict[str, np.ndarray] = {}
    for name, options in (("label_mapping", {}), ("feature_mapping", {}), ("label_mapping", {"reverse": True})):
        score = px.score(data, name, signals=own, target=other, **options)
        values = score.values["rows"]
        whole = int((values >= np.unique(values)[-classes]).sum())  # rows of so many classes
        kept = px.plan(score, f"{whole} rows").keep()
        found[f"{name} reversed" if options else name] = kept
        print(
            json.dumps(
                {"method": name, **options, "rows": whole, "kept": [SOURCE[k] for k in np.unique(source[1][kept])]}
            )
        )
    return found


def main() -> None:
    """One line for each arm: accuracy after fine-tuning, and seconds of pretraining."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000, help="source rows")
    parser.add_argument("--target", type=int, default=200, help="labelled target rows")
    parser.add_argument("--classes", type=int, default=8, help="source classes kept, of 20")
    parser.add_argument("--epochs", type=float, default=8, help="of pretraining")
    parser.add_argument("--tune", type=int, default=20, help="epochs of fine-tuning")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    source, target, test = split(options.rows, options.target)
    every = np.arange(options.rows)
    begin = time.process_time()
    surrogate = pretrained(source, every, options.epochs / 2, 1000)
    kept = {"all classes": every} | chosen(source, target[0], surrogate, options.classes)
    head = {"source": options.rows, "target": options.target, "classes": options.classes, "epochs": options.epochs}
    print(json.dumps({**head, "signals_cpu_seconds": round(time.process_time() - begin, 1)}), flush=True)
    found: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        drawn = Rng(seed, "classes").sample(np.arange(20), options.classes)
        arms = {**kept, "random classes": np.flatnonzero(np.isin(source[1], drawn)), "no pretraining": every[:0]}
        for name, at in arms.items():
            begin = time.process_time()
            net = pretrained(source, at, options.epochs, seed) if at.size else seeded(resnet8, seed, classes=20)
            seconds.setdefault(name, []).append(time.process_time() - begin)
            found.setdefault(name, []).append(accuracy(tuned(net, target, options.tune, seed), test))
    for control in ("random classes", "all classes"):
        paired.table(head, "accuracy", found, control)
    for name, values in seconds.items():
        print(json.dumps({**head, "arm": name, "pretraining_cpu_seconds": round(float(np.mean(values)), 1)}))


if __name__ == "__main__":
    main()
