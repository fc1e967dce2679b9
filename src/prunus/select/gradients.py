"""Gradients of rows for selectors that match them: given whole, or of the last layer from probs, labels and embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prunus.core.errors import BadInput
from prunus.core.score import GroupScore
from prunus.maths.last_layer import Gradients
from prunus.select.by_label import labels_of
from prunus.select.vectors import Start, checked_rows, field_of, in_order, places

if TYPE_CHECKING:
    from prunus.select.by_label import Positions


@dataclass(frozen=True, eq=False)
class RowGradients:
    """Gradients of n rows, sorted by id.

    Attributes:
        gradients: of the rows.
        ids: `[n]`, ascending.
        order: int64 `[n]`, the position of each in the score.
    """

    gradients: Gradients
    ids: np.ndarray
    order: Positions

    def places(self, start: Start, count: int) -> Positions:
        """Where the rows that are kept first are among these (see `vectors.places`)."""
        return places(self.ids, start, count)


def row_gradients(score: GroupScore) -> RowGradients:
    """The gradients of a score's rows, sorted by id.

    Args:
        score: with `gradient [n, p]` among its signals, or `probs [n, c]`, `labels [n]` and `embedding [n, d]`.

    Raises:
        BadInput: they are not there, or of another shape, or a label is not a class.
        NonFinite: a number is NaN or infinite; names the ids.
    """
    order = np.argsort(score.ids, kind="stable")
    ids = score.ids[order]
    if getattr(score.signals, "gradient", None) is not None:
        whole = checked_rows("gradient", in_order(field_of(score, "gradient"), order), ids)
        return RowGradients(Gradients(whole), ids, order)
    embedding, probs = (
        checked_rows(name, in_order(field_of(score, name), order), ids) for name in ("embedding", "probs")
    )
    field_of(score, "labels")
    labels, classes = labels_of(score)[order], probs.shape[1]
    labels = labels.astype(np.float64)
    wrong = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
    if wrong.any():
        raise BadInput(f"labels of ids {ids[wrong][:5].tolist()} are not classes 0..{classes - 1} of probs")
    return RowGradients(Gradients.of(probs, labels.astype(np.int64), embedding), ids, order)
