"""What to say when a method needs labels and the rows have none, and the labels of rows as class numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.core import registry
from prunus.core.errors import BadInput
from prunus.core.registry import Method
from prunus.prunables.dataset import Dataset
from prunus.signals.catalogue import providers

LOSSES = ("loss", "loss_sum", "loss_last", "grad_norm")


def needs_labels(method: Method, *, but: tuple[str, ...] = ()) -> bool:
    """Whether a criterion reads labels, or a signal that is made with them.

    Args:
        method: over rows.
        but: signals that do not count: text is its own label where a LOSS is all that is needed.
    """
    known = providers()
    needs = [name for name in method.needs if name not in but]
    return any(name == "labels" or (name in known and name in known[name].labelled) for name in needs)


def unlabelled(kind: str = "criterion") -> str:
    """Names of the criteria (or selectors) of rows that do without labels, for a message."""
    found = [method for method in registry.methods(kind=kind) if method.unit in ("", "rows")]
    return ", ".join(method.name for method in found if not needs_labels(method))


def without_labels(method: Method, name: str) -> str:
    """The message for rows without labels.

    Args:
        method: asked for.
        name: of the data.
    """
    return (
        f"{method.id} needs labels, and {name} has none: name the label column (DATA?label=COLUMN, "
        f"px.Dataset(..., label=)), or use a method that does without: {unlabelled()}"
    )


def class_labels(data: Dataset) -> NDArray[np.int64]:
    """Class numbers of the rows, int64 `[n]`.

    Raises:
        BadInput: no labels, numbers that are no classes, or negative ones; names the rows.
    """
    labels = data.labels
    if labels is None:
        raise BadInput(f"{data.name} has no labels")
    labels = np.asarray(labels)
    if labels.ndim == 2 and ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all():
        labels = labels.argmax(1)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadInput(
            f"{data.name} has labels of type {labels.dtype} and shape {list(labels.shape)}, not one class a row"
        )
    wrong = labels < 0
    if data.classes is not None:
        wrong |= labels >= len(data.classes)
    if wrong.any():
        raise BadInput(
            f"labels {np.unique(labels[wrong])[:5].tolist()} of ids {data.ids[wrong][:5].tolist()} in {data.name} are not among "
            f"its classes"
        )
    return labels.astype(np.int64)
