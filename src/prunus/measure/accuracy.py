"""Accuracy: over all rows, in the worst class, and in each class, with Wilson's interval.

Removes: nothing.
Needs: a classifier and labelled rows.
Cost: one forward pass.
Departures: none. Shares are in [0, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from prunus.core.registry import measure
from prunus.measure.measured import Measured, role_facts
from prunus.measure.predict import Predictions, predict
from prunus.measure.stats import wilson


@measure(needs=("logits", "labels"))
def accuracy(
    model: nn.Module, data: Any, *, step: Any = None, batch: int = 256, device: str = "cpu", per_class: bool = False
) -> Measured:
    """`accuracy`, `worst_class_accuracy`, `loss`, and `accuracy@<class>` for each class when asked for.

    Args:
        step: adapter of a batch; inferred from the first one.
        batch: rows at a time.
        device: where the model runs.
        per_class: also report every class.
    """
    predictions = predict(model, data, step=step, batch=batch, device=device)
    names = getattr(data, "classes", None)
    measured = Measured(_metrics(predictions, per_class, names), **role_facts(data, len(predictions.ids)))
    measured.predictions = predictions
    return measured


def _metrics(found: Predictions, per_class: bool, names: Any) -> dict[str, tuple[float, tuple[float, float] | None]]:
    correct, rows = int(found.correct.sum()), found.correct.size
    out: dict[str, tuple[float, tuple[float, float] | None]] = {"accuracy": (correct / rows, wilson(correct, rows))}
    classes, inverse = np.unique(found.labels, return_inverse=True)
    right = np.bincount(inverse, weights=found.correct, minlength=classes.size).astype(np.int64)
    totals = np.bincount(inverse, minlength=classes.size)
    worst = int(np.argmin(right / totals))
    out["worst_class_accuracy"] = (right[worst] / totals[worst], wilson(int(right[worst]), int(totals[worst])))
    out["loss"] = (float(found.loss.mean()), None)
    if per_class:
        for index, label in enumerate(classes.tolist()):
            name = names[label] if names and label < len(names) else label
            out[f"accuracy@{name}"] = (right[index] / totals[index], wilson(int(right[index]), int(totals[index])))
    return out
