"""Loss of each row, as the step gives it (for language models the mean over labelled tokens)."""

from __future__ import annotations

from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.scan import Accumulator
from prunus.train.step import Step

PROVIDES = ("loss",)
LEVEL = "rows"
LABELLED = ("loss",)
VERSION = 1
MEMORY = "4 * rows"


class Accumulate(Accumulator):
    """float32 `[B]`."""

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """The step's loss."""
        if step.loss is None:
            raise BadInput("loss needs labels, or a step that returns one loss per row")
        return {"loss": step.loss.detach().float()}
