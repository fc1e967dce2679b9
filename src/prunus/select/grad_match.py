"""GradMatch: keep rows whose weighted gradients add up to that of all, by matching pursuit (Killamsetty et al. 2021).

Removes: rows whose gradient the kept ones can make up.
Needs: probs, labels, embedding (the gradient of the last layer is made of them); or `gradient [n, p]` among the signals
  and labels. The score itself is only checked.
Cost: m n c d multiplications in float32 and m³ for m kept rows; memory 20 n (c + d) + 16 m² bytes (per class n_c, and m_c).
Departures: the Cholesky factor of the ridge fit grows by a row for each pick, where the released code solves from
  scratch; its first fit leaves the ridge out, which alters one residual's length and no direction. Rows go on being
  picked when nothing is left to match, so that the budget is met; of equal correlations the lower id wins. `weights`
  fits non-negative weights to the mean gradient, as released; a single kept row gets the ridge fit too, where the
  released code sets 1 (parity="official"). Fitted inside labels, weights are scaled by the label's share of the rows, without which a rare
  label would count as much as a common one. The weights matter: without them this is a collection of hard rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.last_layer import Gradients
from prunus.maths.matching_pursuit import matching_pursuit
from prunus.select.by_label import labels_of, part
from prunus.select.gradients import row_gradients
from prunus.select.vectors import choose

if TYPE_CHECKING:
    from prunus.select.by_label import Positions


@selector(
    needs=("probs", "labels", "embedding"),
    card="coreset-baselines",
    within="class",
    memory="20 * n * (c + d + 1) + 16 * m * m + 8192 * (c + d + 1)",
    weighs=True,
)
def grad_match(
    score: GroupScore,
    count: int,
    *,
    lam: float = 1.0,
    within: Literal["all", "class"] = "class",
) -> Positions:
    """Positions of rows that make up the mean gradient, in the order of picking (inside each label).

    Args:
        score: with `probs [n, c]`, `labels [n]`, `embedding [n, d]` (or `gradient [n, p]`) among its signals.
        count: rows kept.
        lam: ridge of the fit, above 0.
        within: class = the mean gradient of every label, counts in proportion; all = of all rows.

    Returns:
        int64 `[count]` positions.

    Raises:
        BadInput: a signal is missing or of another shape, an impossible count, lam not above 0.
        NonFinite: a signal or a score is NaN or infinite.
    """
    _check_ridge(lam)

    def one(piece: GroupScore, few: int) -> Positions:
        found = row_gradients(piece)
        return found.order[matching_pursuit(found.gradients, found.gradients.mean(), few, lam)[0]]

    return choose(score, count, within, (), one, row_gradients)


def weights(
    score: GroupScore,
    kept: Positions,
    *,
    lam: float = 1.0,
    within: Literal["all", "class"] = "class",
    parity: Literal["paper", "official"] = "paper",
) -> NDArray[np.float64]:
    """Weights with which the gradients of the kept rows add up to the mean one of all, float64 `[m]` aligned with `kept`.

    Args:
        score: as given to `grad_match`.
        kept: positions, by `grad_match` or any other selector.
        lam, within: as given to `grad_match`.
        parity: paper = those of a label are scaled by its share of the rows; official = they are not, and a single kept
            row has weight 1.
    """
    _check_ridge(lam)
    labels = labels_of(score) if within == "class" else np.zeros(score.ids.size)
    found = np.zeros(kept.size)
    for label in np.unique(labels[kept]):
        mine, rows = labels[kept] == label, np.flatnonzero(labels == label)
        piece = row_gradients(part(score, rows))
        place = np.empty(rows.size, dtype=np.int64)
        place[piece.order] = np.arange(rows.size)
        fit = _fit(piece.gradients, place[np.searchsorted(rows, kept[mine])], lam)
        if parity == "official":
            found[mine] = 1.0 if mine.sum() == 1 else fit
        else:
            found[mine] = fit * (rows.size / labels.size)
    return found


def _fit(gradients: Gradients, chosen: Positions, lam: float) -> NDArray[np.float64]:
    gram = gradients.gram(chosen, chosen) + lam * np.eye(chosen.size)
    return nnls(gram, gradients.along(gradients.mean())[chosen])[0]


def _check_ridge(lam: float) -> None:
    if not 0 < lam < np.inf:
        raise BadInput(f"lam must be above 0, not {lam}: without a ridge the fit of alike gradients is not defined")
