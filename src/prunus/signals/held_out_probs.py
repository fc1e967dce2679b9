"""Probabilities of each row by models that did not see it: k-fold cross-validation.

Two ways. `px.Fit(...)` trains one model for each fold on the rows of the others and passes over the fold: k trainings,
whatever the model. `probe` does it with a linear probe (ridge logistic regression) on features that are there already.
Both cut the folds by `folds_of`: every class is spread evenly, and a row's fold depends on the seed, its id and its
class only, not on the order of the rows.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.maths.linear_probe import fitted

PROVIDES = ("held_out_probs",)
LEVEL = "folds"
LABELLED = ("held_out_probs",)
VERSION = 1
MEMORY = "4 * rows * classes"


def folds_of(ids: NDArray[np.generic], labels: NDArray[np.int64], folds: int, rng: Rng) -> NDArray[np.int64]:
    """The fold of each row, `[n]` in 0..folds-1; sizes differ by one at most, and so do those of each class.

    Args:
        ids: `[n]`.
        labels: `[n]`.
        folds: k, 2 or more.
        rng: seed and purpose.
    """
    if folds < 2:
        raise BadInput(f"held-out rows need 2 folds or more, not {folds}")
    if np.unique(labels).size == labels.size > 1:
        raise BadInput(
            f"each of {labels.size} rows has a class of its own: no other row shows what its label looks like"
        )
    order = np.lexsort((ids, rng.uniform(ids), labels))  # class after class, at random inside
    found = np.empty(labels.size, dtype=np.int64)
    found[order] = np.arange(labels.size) % folds
    return found


def probe(
    embedding: NDArray[np.floating],
    labels: NDArray[np.int64],
    ids: NDArray[np.generic],
    *,
    folds: int = 5,
    ridge: float = 10.0,
    rng: Rng,
) -> NDArray[np.float64]:
    """Held-out probabilities `[n, classes]` by linear probes; classes without a row have probability 0.

    Args:
        embedding: `[n, d]`, finite; each feature is brought to mean 0 and deviation 1 over all rows first.
        labels: class numbers `[n]`, 0 or more.
        ids: `[n]`; work goes in their order, so the order of the rows does not matter.
        folds: k.
        ridge: see `maths.linear_probe`.
        rng: of the folds.
    """
    order = np.argsort(ids, kind="stable")
    x, present = embedding[order].astype(np.float64), np.unique(labels)
    made = np.zeros((labels.size, int(present[-1]) + 1))
    if present.size == 1:  # nothing to tell apart
        made[:, present] = 1
        return made
    y = np.searchsorted(present, labels[order])
    _warn_if_alone(present, np.bincount(y))
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    fold = folds_of(ids[order], y, min(folds, labels.size), rng)
    for number in range(int(fold.max()) + 1):
        held = fold == number
        model = fitted(x[~held], y[~held], ridge)
        made[np.ix_(order[held], present[model.classes_])] = model.predict_proba(x[held])
    return made


def _warn_if_alone(present: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    alone = present[sizes == 1]
    if alone.size:
        warnings.warn(
            f"classes {alone[:5].tolist()} have one row each: no other row shows what their label looks like, so these rows "
            "will look mislabelled",
            UserWarning,
            stacklevel=3,
        )
