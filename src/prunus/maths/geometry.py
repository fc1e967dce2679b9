"""Geometry of a classifier's last layer: angles, lengths and margins of features against the directions of classes.

A logit is |w_c| |f| cos(angle_c) + b_c, so where a feature points, how long it is and how far it lies from the nearest
wrong class say why a prediction is right, and what pruning or corruption did to it. Angles are compared between models only
within each (features of two models live in two spaces).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, NonFinite

Floats = NDArray[np.float64]
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Geometry:
    """Measures of n rows, aligned.

    Attributes:
        angles: `[n, c]`, degrees between the feature and every class's weights, 0 to 180.
        angle: `[n]`, to the true class.
        length: `[n]`, L2 norm of the feature.
        margin: `[n]`, signed distance to the border with the best other class; negative where that one wins.
        nearest: `[n]`, the smallest distance to any border of the true class: the other reading of margin.
        predicted: int64 `[n]`.
        p_true: `[n]`, softmax probability of the label.
        labels: int64 `[n]`.
    """

    angles: Floats
    angle: Floats
    length: Floats
    margin: Floats
    nearest: Floats
    predicted: NDArray[np.int64]
    p_true: Floats
    labels: NDArray[np.int64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """bool `[n]`."""
        return self.predicted == self.labels

    def class_means(self, values: ArrayLike) -> Floats:
        """Mean of values `[n]` over the rows of each class, `[c]`; NaN for a class without rows."""
        counts = np.bincount(self.labels, minlength=self.angles.shape[1]).astype(np.float64)
        sums = np.bincount(self.labels, weights=np.asarray(values, dtype=np.float64), minlength=counts.size)
        return np.divide(sums, counts, out=np.full(counts.size, np.nan), where=counts > 0)


def measure_geometry(features: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, labels: ArrayLike) -> Geometry:
    """Measures of every row.

    Args:
        features: `[n, d]`, what the last linear layer reads.
        weight: `[c, d]`, its weights, two classes or more.
        bias: `[c]`, or None; it counts in logits and margins, not in angles.
        labels: int `[n]`, in 0..c-1.

    Raises:
        BadInput: shapes or labels that do not fit.
        NonFinite: a feature that is not finite.
    """
    f, w = np.asarray(features, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    y = np.asarray(labels).astype(np.int64)
    b = np.zeros(len(w)) if bias is None else np.asarray(bias, dtype=np.float64)
    if f.ndim != 2 or w.ndim != 2 or len(w) < 2 or f.shape[1] != w.shape[1] or b.shape != (len(w),) or len(y) != len(f):
        raise BadInput(
            f"features {f.shape}, weights {w.shape}, bias {b.shape} and labels {y.shape} do not fit together"
        )
    if y.size and not (y.min() >= 0 and y.max() < len(w)):
        raise BadInput(f"labels run from {y.min()} to {y.max()}, the layer has {len(w)} classes")
    if not np.isfinite(f).all():
        raise NonFinite(f"{int((~np.isfinite(f)).any(1).sum())} of {len(f)} features are NaN or infinite")
    rows = np.arange(len(f))
    logits, length = f @ w.T + b, np.linalg.norm(f, axis=1)
    cosine = f @ w.T / (length[:, None] * np.linalg.norm(w, axis=1) + TINY)
    angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    own = logits[rows, y]
    others = logits.copy()
    others[rows, y] = -np.inf
    apart = np.linalg.norm(w[y][:, None] - w[None], axis=2)
    distances = (own[:, None] - logits) / np.where(apart > 0, apart, np.inf)  # equal classes have no border
    rival = others.argmax(1)
    distances[rows, y] = np.inf
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return Geometry(
        angles, angles[rows, y], length, distances[rows, rival], distances.min(1), logits.argmax(1),
        odds[rows, y] / odds.sum(1), y,
    )  # fmt: skip


def class_angles(weight: ArrayLike) -> Floats:
    """Degrees between the directions of every two classes, `[c, c]`."""
    w = np.asarray(weight, dtype=np.float64)
    unit = w / (np.linalg.norm(w, axis=1, keepdims=True) + TINY)
    found = np.degrees(np.arccos(np.clip(unit @ unit.T, -1, 1)))
    np.fill_diagonal(found, 0.0)
    return found


def flips(before: Geometry, after: Geometry) -> NDArray[np.bool_]:
    """bool `[n]`: right before, wrong after; the rows are the same ones."""
    return before.correct & ~after.correct


def fragile(dense: Geometry, pruned: list[Geometry]) -> NDArray[np.bool_]:
    """bool `[n]`: the dense model is right and more than half of the pruned ones are wrong."""
    if not pruned:
        raise BadInput("which rows are fragile to pruning is told by pruned models: there is none")
    wrong = np.mean([~one.correct for one in pruned], axis=0)
    return dense.correct & (wrong > 0.5)


def similarity(values: ArrayLike) -> Floats:
    """Spearman correlation of a measure of the same rows in several models, or under several corruptions.

    Args:
        values: `[k, n]`: a line for each model.

    Returns:
        `[k, k]`; NaN beside a line that is constant.
    """
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(line) for line in np.asarray(values, dtype=np.float64)])
    ranks -= ranks.mean(1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(ranks @ ranks.T / np.outer(norms, norms), -1, 1)
