"""Search and prune: a pool with distractors, searched for an unlabelled target. cifar10-jpeg300, ResNet-20 features.

    PYTHONPATH=src python benchmarks/snp.py

Pool: 3,000 CIFAR-10 images, 750 others with inverted colours and 750 enlarged digits (labels 10..19), all in identities of
about 20: k-means inside the labels of each kind. Target: 1,000 images of cat, deer, dog and horse, blurred, without labels;
tested on 2,000 blurred test images of these classes. Features of the given ResNet-20 (64 numbers). Each arm keeps the same number of
rows, from as many identities where it chooses identities, and a linear probe over all 20 labels is trained on them. Also
shown: Frechet distance of the kept rows to the target, and the share of distractors among them. Needs PRUNUS_DATA.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import cifar
import numpy as np
import paired
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.maths import euclidean
from prunus.maths.frechet import Frechet, Moments
from prunus.select.by_label import part
from prunus.select.identity_search import search
from prunus.select.random import random
from prunus.select.snp import snp
from prunus.signals.collect import collect
from prunus.signals.rowset import Signals
from prunus.train.loop import fit
from prunus.train.models import mlp, seeded

TARGET = (3, 4, 5, 7)
PER_IDENTITY = 20


def blurred(x: Tensor) -> Tensor:
    """A mean over 3 x 3 pixels."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)


def digits(count: int) -> tuple[Tensor, np.ndarray]:
    """Digits in three colours at 32 x 32, normalised as the images are."""
    found = load_digits()
    x = torch.from_numpy(found.images[:count]).float()[:, None] / 16
    x = F.interpolate(x, size=(32, 32), mode="bilinear").expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x - mean) / std, found.target[:count] + 10


def features(x: Tensor) -> np.ndarray:
    found = collect(
        cifar.resnet(), (x, torch.zeros(len(x), dtype=torch.long)), ("embedding",), batch=250, progress=False
    )
    assert found.rows is not None
    return found.rows.embedding.numpy()


def pool(rows: int) -> tuple[GroupScore, np.ndarray, Tensor, np.ndarray]:
    """(rows with embedding, labels and identities; kind of each: 0 plain, 1 inverted, 2 digits; images left over)."""
    others = rows // 4
    x, y = cifar.images("train", limit=rows + others + 4000)
    numbers, names = digits(others)
    parts = [x[:rows], -x[rows : rows + others], numbers]
    labels = np.concatenate([y[: rows + others], names])
    kind = np.repeat(np.arange(3), [len(one) for one in parts])
    embedding = features(torch.cat(parts))
    identity, number = np.empty(labels.size, dtype=np.int64), 0
    for one in range(3):
        for label in np.unique(labels[kind == one]):
            mine = np.flatnonzero((kind == one) & (labels == label))
            found = euclidean.kmeans(embedding[mine], max(round(mine.size / PER_IDENTITY), 1), seed=0)
            identity[mine] = number + np.unique(found, return_inverse=True)[1]
            number = int(identity[mine].max()) + 1
    ids = np.arange(labels.size)
    signals = Signals(ids, embedding=embedding, labels=labels, identity=identity)
    return GroupScore(np.zeros(ids.size), ids, "keep", signals, "pool"), kind, x[rows + others :], y[rows + others :]


def of_target(x: Tensor, y: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of blurred images of the target's classes."""
    at = np.flatnonzero(np.isin(y, TARGET))[:limit]
    return features(blurred(x[at])), y[at]


def probe(x: np.ndarray, y: np.ndarray, test: tuple[np.ndarray, np.ndarray], seed: int) -> float:
    """Percent of the test rows that a linear layer over 20 labels gets right."""
    net = seeded(mlp, seed, x.shape[1], 20)
    fit(net, (np.arange(y.size), x, y), steps=300, lr=0.1, batch=64, seed=seed, progress=False)
    with torch.inference_mode():
        return 100 * float((net(torch.from_numpy(test[0])).argmax(1).numpy() == test[1]).mean())


def arms(
    score: GroupScore, count: int, few: int, target: np.ndarray, clusters: int, seed: int
) -> dict[str, np.ndarray]:
    """What every arm keeps."""
    options = {"target": target, "by": "identity", "clusters": clusters, "identities": few, "rng": Rng(seed, "snp")}
    names = np.unique(score.signals.identity)
    drawn = names[Rng(seed, "identities").sample(names, few)]
    inside = np.flatnonzero(np.isin(score.signals.identity, drawn))
    found = search(score, target, by="identity", clusters=clusters)
    prefix = np.flatnonzero(np.isin(found.of, found.found(count)))
    return {
        "random identities": inside[random(part(score, inside), count, rng=Rng(seed, "rows"))],
        "random rows": random(score, count, rng=Rng(seed, "rows")),
        "snp": snp(score, count, **options),
        "snp thin=random": snp(score, count, thin="random", **options),
        "snp prefer=nearest": snp(score, count, prefer="nearest", **options),
        "snp clustering=halves": snp(score, count, clustering="halves", **options),
        "snp official": snp(score, count, parity="official", **options),
        "random rows of the search": prefix[random(part(score, prefix), count, rng=Rng(seed, "rows"))],
    }


def main() -> None:
    """One line for each arm and metric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3000, help="images of the pool that are no distractors")
    parser.add_argument("--count", type=int, default=300, help="rows kept")
    parser.add_argument("--identities", type=int, default=30, help="identities kept")
    parser.add_argument("--clusters", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    begin = time.process_time()
    score, kind, x, y = pool(options.rows)
    target = of_target(x, y, 1000)[0]
    test = of_target(*cifar.images("test"), 2000)
    spent, begin = time.process_time() - begin, time.process_time()
    found = search(score, target, by="identity", clusters=options.clusters)
    away, labels = Frechet(Moments.of(target)), score.signals.labels.numpy()
    chosen = np.isin(found.of, found.found(options.count))
    head = {"pool": kind.size, "count": options.count, "identities": options.identities, "clusters": options.clusters}
    print(json.dumps({
        **head, "signals_cpu_seconds": round(spent, 1), "search_cpu_seconds": round(time.process_time() - begin, 2),
        "best_prefix": found.best(options.count), "rows_found": int(chosen.sum()),
        "distance_found": round(found.prefix.min(), 3), "distance_of_pool": round(found.prefix[-1], 3),
        "kinds_found": dict(zip(("plain", "inverted", "digits"), np.bincount(kind[chosen], minlength=3).tolist())),
        "of_target_classes_found": round(100 * float(np.isin(labels[chosen], TARGET).mean()), 1),
        "probe_of_the_whole_pool": round(probe(score.signals.embedding.numpy(), labels, test, 0), 2),
    }), flush=True)  # fmt: skip
    measured: dict[str, dict[str, list[float]]] = {}
    for seed in range(options.seeds):
        for name, kept in arms(score, options.count, options.identities, target, options.clusters, seed).items():
            embedding = score.signals.embedding.numpy()[kept]
            row = {"accuracy": probe(embedding, labels[kept], test, seed), "distance": away(Moments.of(embedding))}
            row["distractors"] = 100 * float((kind[kept] > 0).mean())
            for metric, value in row.items():
                measured.setdefault(metric, {}).setdefault(name, []).append(value)
    for metric, values in measured.items():
        for control in ("random identities", "random rows"):
            paired.table(head, metric, values, control, better="higher" if metric == "accuracy" else "lower")


if __name__ == "__main__":
    main()
