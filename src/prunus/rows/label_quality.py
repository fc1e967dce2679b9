"""Label quality: how well the label fits, by models that did not see the row (Northcutt et al. 2021, confident learning).

Removes: rows. Large is easy: small values are rows whose label is probably wrong.
Needs: held-out probabilities: `px.Fit` makes them with k trainings (held_out_probs); else embeddings, on which it
  trains linear probes itself; labels; all rows at once for the classes' thresholds.
Cost: floor: folds x training. With probes: k ridge logistic regressions, about 100 to 300 passes of 4 n d c
  multiplications each, memory 24 n (d + c) bytes. benchmarks/label_quality.py prints time / floor.
Departures: `adjust=True` lowers the probability of each class by its threshold, the mean over the rows that carry it, and
  brings the sum back to 1, as `adjust_pred_probs` of cleanlab: meant for classes of unequal size or difficulty, off
  there and here. On digits with a linear probe it ranked wrong labels worse at 5 and 20 % of them and better only at
  40 %. Ridge 10 on features of deviation 1 (scikit-learn's 1 / C): of 1 to 1,000 the best or nearly so on digits
  with 2 to 40 % wrong labels. Embeddings must not come from a model trained on these labels: it knows the wrong ones
  by heart. Which rows are issues is said by `px.label_issues` and `prunus check --labels`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.core.score import check_finite
from prunus.maths.confident import adjusted, best_other, thresholds
from prunus.rows.targets import classes
from prunus.select.vectors import checked_rows
from prunus.signals.held_out_probs import probe

if TYPE_CHECKING:
    from prunus.core.rng import Rng

    Floats = NDArray[np.float64]


@criterion(
    unit="rows",
    needs=("embedding", "labels"),
    instead=("held_out_probs",),
    sense="easy",
    whole=True,
    memory="24 * n * (d + c) + 100 * n",
)
def label_quality(
    s: Any,
    *,
    measure: Literal["self_confidence", "normalised_margin"] = "self_confidence",
    adjust: bool = False,
    folds: int = 5,
    ridge: float = 10.0,
    rng: Rng,
) -> Tensor:
    """How well each label fits, float64 `[n]` in [0, 1].

    Args:
        s: signals with `ids [n]`, `labels [n]` and `held_out_probs [n, c]` or `embedding [n, d]`.
        measure: self_confidence = probability of the label; normalised_margin = (it - best other + 1) / 2.
        adjust: lower the probability of each class by its threshold first.
        folds: of the probes on embeddings.
        ridge: of these probes.
        rng: seed and purpose of their folds.
    """
    probs, labels = held_out(s, folds=folds, ridge=ridge, rng=rng)
    if adjust:
        probs = adjusted(probs, thresholds(probs, labels, s.ids))
    own = probs[np.arange(labels.size), labels]
    if measure == "normalised_margin":
        own = (own - best_other(probs, labels).max(1, initial=0.0) + 1) / 2
    return torch.from_numpy(own)


def held_out(s: Any, *, folds: int = 5, ridge: float = 10.0, rng: Rng) -> tuple[Floats, NDArray[np.int64]]:
    """Held-out probabilities `[n, c]` as recorded, else by linear probes on the embedding, and labels `[n]`.

    Args:
        s, folds, ridge, rng: see `label_quality`.
    """
    given = getattr(s, "held_out_probs", None)
    if given is not None:
        return _checked(np.asarray(given, np.float64), s.ids), classes(s.labels, given).numpy()
    x = checked_rows("embedding", np.asarray(s.embedding), s.ids)
    width = max(int(s.labels.max()) + 1, 1) if s.labels.dim() == 1 else s.labels.shape[1]
    labels = classes(s.labels, torch.empty(len(s.labels), width)).numpy()
    return probe(x, labels, np.asarray(s.ids), folds=folds, ridge=ridge, rng=rng), labels


def _checked(probs: Floats, ids: NDArray[np.generic]) -> Floats:
    """Refuse what is no probability of each class."""
    check_finite("held_out_probs", probs.sum(1), ids)
    wrong = (probs < 0).any(1) | (np.abs(probs.sum(1) - 1) > 0.01)
    if wrong.any():
        raise BadInput(
            f"held_out_probs of {int(wrong.sum())} rows, such as ids {ids[wrong][:5].tolist()}, are no probabilities: give "
            "softmax(logits), [n, classes] of sum 1"
        )
    return probs
