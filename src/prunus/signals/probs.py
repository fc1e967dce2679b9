"""Class probabilities and logits of each row."""

from __future__ import annotations

from torch import Tensor

from prunus.core.errors import BadInput
from prunus.signals.scan import Accumulator
from prunus.train.step import Step

PROVIDES = ("probs", "logits", "labels")
LEVEL = "rows"
LABELLED = ("labels",)
VERSION = 1
MEMORY = "4 * rows * classes"


class Accumulate(Accumulator):
    """float32 `[B, c]`; labels `[B]` come with every row signal."""

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """Softmax in float32."""
        if "labels" in self.wanted and step.labels is None:
            raise BadInput("labels were asked for, but this batch has none")
        fields = {"labels": step.labels} if "labels" in self.wanted and step.labels is not None else {}
        wanted = self.wanted - {"labels"}
        if not wanted:
            return fields
        if step.logits is None or step.logits.dim() != 2:
            shape = None if step.logits is None else list(step.logits.shape)
            raise BadInput(f"{sorted(wanted)} need logits [B, classes], not {shape}; for tokens ask for loss instead")
        logits = step.logits.detach().float()
        if "logits" in wanted:
            fields["logits"] = logits
        if "probs" in wanted:
            fields["probs"] = logits.softmax(-1)
        return fields
