"""DeepFool distances of digits: against classes x iterations bare backward passes, and against one row at a time."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from interleaved import line
from sklearn.datasets import load_digits
from torch import Tensor, nn

from prunus.signals.collect import collect
from prunus.train.loop import fit
from prunus.train.models import TinyCNN, seeded

MOST = 50


def trained() -> tuple[nn.Module, Tensor]:
    """A small CNN that knows the digits, and the digits."""
    digits = load_digits()
    x = torch.from_numpy((digits.images[:, None] / 16).astype(np.float32))
    model = seeded(TinyCNN, 0)
    fit(model, (x, torch.from_numpy(digits.target)), epochs=6, lr=0.05, batch=64, progress=False)
    return model.eval(), x


def distances(model: nn.Module, x: Tensor, iterations: int = MOST) -> Tensor:
    """The signal."""
    found = collect(model, (x, None), "boundary_distance", batch=256, progress=False, deepfool_iterations=iterations)
    assert found.rows is not None
    return found.rows.boundary_distance


def moving(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Positions of the rows that take each step: those whose way got longer by it."""
    steps, before = [torch.arange(len(x))], distances(model, x, 1)
    while len(steps) < MOST:
        after = distances(model, x, len(steps) + 1)
        if not len(went := (after != before).nonzero().flatten()):
            break
        steps, before = [*steps, went], after
    return steps


def bare(model: nn.Module, x: Tensor, classes: int = 10) -> None:
    """One forward pass and the gradient of every class, which is what a step can't do without."""
    for part in x.split(256):
        at = part.clone().requires_grad_()
        logits = model(at)
        for k in range(classes):
            torch.autograd.grad(logits[:, k].sum(), at, retain_graph=k + 1 < classes)


def main() -> None:
    """The signal's seconds over those of the passes that it can't do without, at the steps that it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1797)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model, x = trained()
    x = x[: options.rows]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    steps = moving(model, x)
    facts = {"rounds": options.rounds, "rows": len(x), "mean_iterations": sum(map(len, steps)) / len(x)}

    def floor() -> None:
        for at in steps:
            bare(model, x[at])

    ways = {"classes x iterations": floor, "boundary_distance": lambda: distances(model, x)}
    line("DeepFool / its floor", ways, over="classes x iterations", limit=1.5, **facts)
    few = x[:100]
    ways = {"one row at a time": lambda: [distances(model, row[None]) for row in few]}
    ways["boundary_distance"] = lambda: distances(model, few)
    line("DeepFool / one row at a time", ways, over="one row at a time", limit=0.3, **{**facts, "rows": len(few)})


if __name__ == "__main__":
    main()
