"""EL2N of n rows against the forward pass it can't do without: ResNet-20, 32x32 images, batches of 64."""

from __future__ import annotations

import argparse

import torch
from interleaved import line

from prunus.core.registry import find
from prunus.signals.collect import collect
from prunus.train.models import CifarResNet, seeded


def main() -> None:
    """The pass and the criterion, as `px.score` runs them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    x, y = torch.randn(options.rows, 3, 32, 32), torch.randint(0, 10, (options.rows,))
    model = seeded(CifarResNet, 0, 20).eval()
    criterion = find("rows/el2n").load()

    def forward() -> None:
        with torch.no_grad():
            for part in x.split(64):
                model(part)

    def el2n() -> None:
        criterion(collect(model, (x, y), ("probs", "labels"), batch=64, progress=False).rows)

    ways = {"bare forward": forward, "el2n": el2n}
    line("EL2N / bare forward", ways, over="bare forward", limit=1.10, rounds=options.rounds, rows=options.rows)


if __name__ == "__main__":
    main()
