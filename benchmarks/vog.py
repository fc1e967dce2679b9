"""Variance of gradients over checkpoints: against checkpoints x (forward + backward to the input), bare."""

from __future__ import annotations

import argparse

import torch
from interleaved import line

from prunus.signals.collect import collect
from prunus.train.models import CifarResNet, seeded


def main() -> None:
    """ResNet-8 of width 16 on 16x16 images, batches of 64."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--checkpoints", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    x, y = torch.randn(options.rows, 3, 16, 16), torch.randint(0, 10, (options.rows,))
    models = [seeded(CifarResNet, seed, 8).eval().requires_grad_(False) for seed in range(options.checkpoints)]
    states = [model.state_dict() for model in models[:-1]]

    def bare() -> None:
        for a, b in zip(x.split(64), y.split(64)):
            for model in models:
                at = a.clone().requires_grad_()
                torch.autograd.grad(model(at).gather(1, b[:, None]).sum(), at)

    def variance() -> None:
        collect(models[-1], (x, y), "gradient_variance", checkpoints=states, batch=64, progress=False)

    ways = {"checkpoints x (forward + backward)": bare, "gradient_variance": variance}
    facts = {"rounds": options.rounds, "rows": options.rows, "checkpoints": options.checkpoints}
    line("VoG / its floor", ways, over="checkpoints x (forward + backward)", limit=1.2, **facts)


if __name__ == "__main__":
    main()
