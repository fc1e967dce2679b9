"""GLISTER: keep the rows whose step lowers the loss on validation rows most, greedily (Killamsetty et al. 2021).

Removes: rows whose gradient does not point where the validation rows need it.
Needs: probs, labels, embedding (gradients and logits of the last layer are made of them), of the rows and of validation rows
  (`val`); without the latter the rows themselves are validated on. The score itself is only checked.
Cost: m (n + 2 v) c d multiplications for v validation rows, c classes and m rows kept, divided by `refresh`; memory
  20 (n + v) (c + d) bytes.
Departures: a Taylor expansion of the last layer, as released: after each pick the model moves by `eta` times the mean
  gradient of the picks, the probabilities of the validation rows are computed again there, and the next pick is the row
  whose (first) gradient is most along the new mean validation gradient. In DeepCore a misspelt keyword leaves the
  validation gradient as it was, so that its picks are one ranking. Logits are ln p, which softmax can't tell from those of
  the model. The paper picks several rows between two updates to save time: `refresh`, 1 here. Of equal gains the lower
  id wins. Rows go on being picked when no gain is left, so that the budget is met. No weights: they would be 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.last_layer import TIE, Gradients
from prunus.select.by_label import labels_of
from prunus.select.gradients import row_gradients
from prunus.select.vectors import choose, field_of

if TYPE_CHECKING:
    from prunus.select.by_label import Positions
    from prunus.signals.rowset import Signals

Floats = NDArray[np.float64]
LEAST = 1e-30
"""Probabilities below this have no logarithm worth the name."""


@selector(
    needs=("probs", "labels", "embedding"),
    val=("probs", "labels", "embedding"),
    card="coreset-baselines",
    within="all",
    memory="40 * n * (c + d + 1) + 8192 * (c + d + 1)",
)
def glister(
    score: GroupScore,
    count: int,
    *,
    val: Signals | None = None,
    eta: float = 0.1,
    refresh: int = 1,
    within: Literal["all", "class"] = "all",
) -> Positions:
    """Positions of rows that lower the validation loss, in the order of picking (inside each label).

    Args:
        score: with `probs [n, c]`, `labels [n]`, `embedding [n, d]` among its signals.
        count: rows kept.
        val: signals of validation rows, with the same three; None = the rows themselves.
        eta: length of the step that a pick is judged by, the learning rate of the last layer.
        refresh: rows picked between two looks at the validation loss.
        within: all = as published; class = inside every label, by the validation rows of that label, counts in proportion.

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: a signal is missing or of another shape, another number of classes or features in `val`, a label without
            validation rows, an impossible count or option.
        NonFinite: a signal or a score is NaN or infinite.
    """
    if not 0 < eta < np.inf or refresh < 1:
        raise BadInput(f"eta must be above 0 and refresh 1 or more, not {eta} and {refresh}")
    judged = None if val is None else GroupScore(np.zeros(len(val)), val.ids, "keep", val, "validation rows")

    def one(piece: GroupScore, few: int) -> Positions:
        found = row_gradients(piece)
        loss = Validation(piece if judged is None else _same_label(judged, piece, within))
        return found.order[greedy(found.gradients, loss, few, eta, refresh)]

    return choose(score, count, within, (), one, row_gradients)


def _same_label(judged: GroupScore, piece: GroupScore, within: str) -> GroupScore:
    """The validation rows that judge these rows: all, or those of their label."""
    if within == "all":
        return judged
    label, labels = labels_of(piece)[0], labels_of(judged)
    mine = np.flatnonzero(labels == label)
    if not mine.size:
        raise BadInput(f"label {label} has no validation rows: use within='all', or give some")
    return GroupScore(judged.values[mine], judged.ids[mine], "keep", judged.signals.take(mine), judged.name)


class Validation:
    """The loss of validation rows as the last layer moves.

    Args:
        judged: validation rows with `probs`, `labels`, `embedding`.
    """

    def __init__(self, judged: GroupScore) -> None:
        found = row_gradients(judged)
        self.first = found.gradients
        probs = np.asarray(field_of(judged, "probs"), dtype=np.float64)[found.order]
        self.logits = np.log(probs.clip(LEAST))
        self.wanted = probs - self.first.errors  # one-hot labels

    def gradient(self, moved: Floats | None = None) -> Floats:
        """Mean gradient of the loss, `[c, k]`, after the last layer went by `-moved`."""
        if moved is None:
            return self.first.mean()
        errors = softmax(self.logits - self.first.inputs @ moved.T, axis=1) - self.wanted
        return errors.T @ self.first.inputs / max(self.first.size, 1)


def greedy(gradients: Gradients, loss: Validation, count: int, eta: float, refresh: int) -> Positions:
    """Rows in the order of picking, int64 `[count]`."""
    target = loss.gradient()
    if count and target.shape != gradients.mean().shape:
        raise BadInput(
            f"validation rows have {target.shape[0]} classes and {target.shape[1] - 1} features, the rows "
            f"{gradients.errors.shape[1]} and {gradients.inputs.shape[1] - 1}"
        )
    picked, left = np.zeros(0, dtype=np.int64), np.ones(gradients.size, dtype=bool)
    longest, total = float(np.sqrt(gradients.squares()).max(initial=0.0)), np.zeros_like(target)
    while picked.size < count:
        gains = np.where(left, gradients.along(target), -np.inf)
        gains = np.round(gains / (TIE * longest * float(np.linalg.norm(target)) or 1.0))  # ties by the lower index
        chosen = np.argsort(-gains, kind="stable")[: min(refresh, count - picked.size)]
        picked, left[chosen] = np.append(picked, chosen), False
        total += gradients.sum(chosen, np.ones(chosen.size))
        target = loss.gradient(eta * total / picked.size)
    return picked
