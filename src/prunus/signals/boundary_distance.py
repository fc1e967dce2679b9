"""Distance of each row to the nearest decision boundary in the input space (DeepFool, Moosavi-Dezfooli et al. 2016).

The boundary to every rival class is linearised at the row, the row moves to the nearest one, and again from there, until
the model predicts another class; the distance is the length of the whole way. The test of a new prediction steps a
little beyond the boundary (2 %, as published), the length does not. For a linear model one step is exact.

Rows move in one batch, and those that have crossed leave it. One step costs a forward pass and a backward pass for each
rival; rivals are the `deepfool_classes` largest logits at the start (10, as released), and all classes where there are
no more. A row that has not crossed after `deepfool_iterations` (50) has the length of its way so far.
Needs no labels: the class left is the predicted one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.inputs import float_input, gradient, logits_of, named
from prunus.signals.scan import Accumulator
from prunus.train.step import Step

PROVIDES = ("boundary_distance",)
LEVEL = "rows"
VERSION = 1
MEMORY = "4 * rows + 5 * inputs of a batch + activations of a batch"
BEYOND = 0.02


class Accumulate(Accumulator):
    """float32 `[B]`, 0 or more."""

    def start(self) -> None:
        """Read the options."""
        self._iterations = int(self.scan.options.get("deepfool_iterations", 50))
        self._classes = int(self.scan.options.get("deepfool_classes", 10))
        if self._iterations < 1 or self._classes < 2:
            raise BadInput(
                f"DeepFool needs 1 iteration and 2 classes or more, not {self._iterations} and {self._classes}"
            )

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """Move every row until its prediction changes."""
        start = float_input(self.scan.batch, "DeepFool").detach()
        way = torch.zeros_like(start)
        moving = torch.arange(len(start), device=start.device)
        own, rivals = self._classes_of(start)
        for number in range(self._iterations):
            place = (start[moving] + (1 + BEYOND) * way[moving]).requires_grad_()
            with torch.enable_grad():
                logits = logits_of(self.scan, self.scan.model, place, moving)
                move, known = _to_nearest(place, logits, own[moving], rivals[moving])
            if number == 0:
                _check(step, ~known)
            way[moving] += move
            moving = moving[known]
            moving = moving[self._still_inside(start, way, own, moving)]
            if not moving.numel():
                break
        return {"boundary_distance": way.flatten(1).double().norm(dim=1).float()}

    def _still_inside(self, start: Tensor, way: Tensor, own: Tensor, moving: Tensor) -> Tensor:
        """Which of these rows keep their class a little beyond the end of their way, bool `[r]`."""
        if not moving.numel():
            return torch.zeros(0, dtype=torch.bool, device=start.device)
        with torch.no_grad():
            logits = logits_of(self.scan, self.scan.model, start[moving] + (1 + BEYOND) * way[moving], moving)
        mine = logits.gather(1, own[moving, None]).squeeze(1)
        return (logits.argmax(1) == own[moving]) & (logits.topk(2, dim=1).values[:, 1] < mine)

    def _classes_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted class `[B]` and rivals `[B, k]`, the largest first."""
        with torch.no_grad():
            logits = logits_of(self.scan, self.scan.model, x)
        own, rivals = logits.argmax(1), min(self._classes, logits.shape[1]) - 1
        return own, logits.scatter(1, own[:, None], -torch.inf).topk(rivals, dim=1).indices


def _to_nearest(x: Tensor, logits: Tensor, own: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """The step to the nearest linearised boundary `[r, ...]`, and whether any boundary has a direction, bool `[r]`."""
    mine = logits.gather(1, own[:, None]).squeeze(1)
    nearest = torch.full_like(mine, torch.inf)
    best = torch.zeros_like(x)
    shape = (-1, *(1,) * (x.dim() - 1))
    last = rivals.shape[1] - 1
    for number in range(last + 1):
        lead = mine - logits.gather(1, rivals[:, number : number + 1]).squeeze(1)
        slope = gradient(-lead, x, again=number < last)
        square = slope.flatten(1).square().sum(1)
        away = torch.where(square > 0, lead.detach() / square.sqrt(), torch.inf)
        closer = away < nearest
        nearest = torch.where(closer, away, nearest)
        scale = lead.detach() / square.clamp_min(torch.finfo(square.dtype).tiny)
        best = torch.where(closer.view(shape), slope * scale.view(shape), best)
    return best, nearest.isfinite()


def _check(step: Step, lost: Tensor) -> None:
    """A row that has no first step has no distance."""
    if lost.any():
        raise BadInput(
            f"the outputs for rows {named(step, lost)} do not change with their input, so no boundary can be found: check "
            "that the model is trained and the input scaled as in training"
        )
