"""Label quality: against folds x training, which is what held-out probabilities can't do without."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from interleaved import line

import prunus as px
from prunus.core.rng import Rng, torch_fork
from prunus.maths.linear_probe import fitted
from prunus.rows.label_quality import label_quality
from prunus.signals.rowset import Signals
from prunus.train.loop import fit
from prunus.train.models import mlp

FOLDS = 5


def main() -> None:
    """An MLP 64-128-10 trained in folds, and linear probes on 512 features."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    n = options.rows
    y = torch.randint(0, 10, (n,), generator=generator).numpy()
    x = (torch.randn(n, 64, generator=generator) + 2 * torch.eye(64)[y]).numpy()
    data = px.Dataset((x, y))
    settings = {"lr": 0.1, "batch": 128, "progress": False}
    made = px.Fit(lambda: mlp(64, 128, 10), epochs=3, settings=settings)
    held = [np.arange(n) % FOLDS == number for number in range(FOLDS)]

    def trainings() -> None:
        for out in held:
            with torch_fork(0, "weights"):
                net = mlp(64, 128, 10)
            fit(net, data.subset(data.ids[~out]), epochs=3, seed=0, **settings)

    ways = {"folds x training": trainings, "label_quality": lambda: px.score(data, "label_quality", fit=made)}
    facts = {"rounds": options.rounds, "rows": n, "folds": FOLDS}
    line("label quality by trainings / its floor", ways, over="folds x training", limit=1.2, **facts)

    wide = np.concatenate([x, torch.randn(n, 448, generator=generator).numpy()], axis=1).astype(np.float64)
    wide = (wide - wide.mean(0)) / wide.std(0)
    signals = Signals(embedding=wide.astype(np.float32), labels=y)

    def probes() -> None:
        for out in held:
            fitted(wide[~out], y[~out], 10.0)

    ways = {"folds x probe": probes, "label_quality": lambda: label_quality(signals, rng=Rng(0, "x"))}
    line("label quality by probes / its floor", ways, over="folds x probe", limit=1.2, **facts)


if __name__ == "__main__":
    main()
