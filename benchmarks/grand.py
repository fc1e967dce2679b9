"""Full-parameter gradient norms of rows (GraNd): against one batched forward and backward pass, and one row at a time."""

from __future__ import annotations

import argparse

import torch
from interleaved import line

from prunus.signals.collect import collect
from prunus.train.models import CifarResNet, mlp, seeded
from prunus.train.step import per_row_loss


def main() -> None:
    """ResNet-20 on 32x32 images, and the digits network 64-128-10 on all 1,797 digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    x, y = torch.randn(options.rows, 3, 32, 32), torch.randint(0, 10, (options.rows,))
    model = seeded(CifarResNet, 0, 20).eval()

    def batched() -> None:
        for a, b in zip(x.split(64), y.split(64)):
            model.zero_grad()
            per_row_loss(model(a), b).mean().backward()

    def grand() -> None:
        collect(model, (x, y), "grad_norm", batch=64, progress=False)

    ways = {"forward + backward": batched, "grad_norm": grand}
    facts = {"rounds": options.rounds, "rows": options.rows}
    line("GraNd ResNet-20 / training pass", ways, over="forward + backward", limit=3.0, **facts)
    digits(options.rounds)


def digits(rounds: int) -> None:
    """The loop that most toolkits have: one backward pass for each row."""
    x, y = torch.rand(1797, 64), torch.randint(0, 10, (1797,))
    model = seeded(mlp, 0, 64, 128, 10).eval()
    parameters = list(model.parameters())

    def loop() -> None:
        for row in range(len(x)):
            grads = torch.autograd.grad(per_row_loss(model(x[row : row + 1]), y[row : row + 1]).sum(), parameters)
            torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()

    def grand() -> None:
        collect(model, (x, y), "grad_norm", batch=256, progress=False)

    ways = {"one row at a time": loop, "grad_norm": grand}
    line("GraNd digits MLP / one row at a time", ways, over="one row at a time", limit=0.1, rounds=rounds, rows=len(x))


if __name__ == "__main__":
    main()
