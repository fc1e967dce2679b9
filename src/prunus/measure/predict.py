"""One pass in evaluation mode that keeps, for every row, what accuracy and paired intervals need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from prunus.core.errors import BadInput, IdMismatch, NonFinite
from prunus.train.modes import evaluating
from prunus.train.ordered import ordered
from prunus.train.step import StepFn, infer_step, to_device


@dataclass(frozen=True, eq=False)
class Predictions:
    """Aligned by row.

    Attributes:
        ids: int64 or unicode `[n]`.
        labels: int64 `[n]`.
        predicted: int64 `[n]`, the class with the largest logit (the lower one of equals).
        loss: float64 `[n]`, cross-entropy of each row.
    """

    ids: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    loss: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """bool `[n]`."""
        return self.predicted == self.labels

    def same_rows(self, other: Predictions) -> Predictions:
        """`other` in the order of these rows, for pairing."""
        order = np.argsort(other.ids, kind="stable")
        at = np.searchsorted(other.ids, self.ids, sorter=order)
        found = order[np.minimum(at, len(order) - 1)]
        if len(self.ids) != len(other.ids) or not np.array_equal(other.ids[found], self.ids):
            raise IdMismatch("the two were measured on different rows and can't be paired")
        return Predictions(*(getattr(other, name)[found] for name in ("ids", "labels", "predicted", "loss")))


def predict(
    model: nn.Module, data: Any, *, step: StepFn | None = None, batch: int = 256, device: str = "cpu"
) -> Predictions:
    """Predict every row of a classification set. The model's mode is restored.

    Args:
        data: see `train.ordered`.
        step: adapter of a batch; inferred by default.
        batch: rows at a time.

    Raises:
        BadInput: logits that are not `[B, c]`, labels that are no classes, no rows.
        NonFinite: logits with NaN, naming the first rows.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    with evaluating(model), torch.inference_mode():
        for number, found in enumerate(ordered(data, batch)):
            step = step or infer_step(found)
            parts.append(_one(step(model, to_device(found, torch.device(device))), number * batch))
    if not parts:
        raise BadInput("there are no rows to measure on")
    return Predictions(*(np.concatenate(columns) for columns in zip(*parts)))


def _one(result: Any, first: int) -> tuple[np.ndarray, ...]:
    logits, labels = result.logits, result.labels
    if logits is None or logits.dim() != 2 or labels is None or labels.dim() != 1 or labels.is_floating_point():
        raise BadInput(
            f"accuracy needs logits [B, c] and class labels [B], got {_shape(logits)} and {_shape(labels)}; pass step= for other tasks"
        )
    ids = np.arange(first, first + len(logits)) if result.ids is None else result.ids
    if bool(logits.isnan().any()):
        raise NonFinite(f"the logits of rows {ids[logits.isnan().any(1).cpu().numpy()][:5].tolist()} are NaN")
    loss = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    return ids, labels.cpu().numpy(), logits.argmax(1).cpu().numpy(), loss.cpu().numpy()


def _shape(tensor: Any) -> str:
    return "none" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
