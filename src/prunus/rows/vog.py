"""VoG: variance of gradients, how much a row's saliency map changes during training (Agarwal et al. 2022).

Removes: rows. Large is hard.
Needs: gradient_variance and gradient_std over checkpoints of one training run (evaluation mode): a Fit keeps them, or a
  pass is given `checkpoints=`; labels; an input of floating point; all rows at once for the classes' statistics.
Cost: floor: checkpoints x (forward + backward to the input) for each row; memory 8 n bytes, the checkpoints, 4 inputs
  of a batch. benchmarks/vog.py prints time / floor.
Departures: the formula of the paper, a mean over pixels of the summed squares, which ranks as the variance does. The
  released code takes the square root of each pixel's variance first: `parity="official"`. Gradients of images are
  averaged over the channels first, as released for ImageNet. `normalise="class"` subtracts the mean of the row's class
  and divides by its standard deviation (population), as released; a class whose rows are all alike gives 0 where the
  released code divides by 0.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prunus.core.registry import criterion
from prunus.core.score import check_finite

ALIKE = 1e-12  # relative spread that rounding alone can make


@criterion(
    unit="rows",
    needs=("gradient_variance", "gradient_std", "labels"),
    sense="hard",
    whole=True,
)
def vog(
    s: Any, *, normalise: Literal["none", "class"] = "none", parity: Literal["paper", "official"] = "paper"
) -> Tensor:
    """Variance of gradients, float64 `[n]`, 0 or more; within classes: their z-scores.

    Args:
        s: signals with `ids`, `gradient_variance`, `gradient_std` and `labels`, all `[n]`.
        normalise: none, or class for z-scores within each label.
        parity: paper = mean over pixels of the variance; official = mean over pixels of the standard deviation.
    """
    both = {name: np.asarray(getattr(s, name), np.float64) for name in ("gradient_variance", "gradient_std")}
    for name, values in both.items():
        check_finite(name, values, s.ids)
    values = both["gradient_std" if parity == "official" else "gradient_variance"]
    return torch.from_numpy(values if normalise == "none" else within_classes(values, np.asarray(s.labels), s.ids))


def within_classes(values: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Z-scores of the values among the rows of the same label, float64 `[n]`; 0 where all are alike.

    Args:
        values, labels, ids: `[n]`; sums run in the order of the ids, so the order of the rows does not matter.
    """
    order, found = np.argsort(ids, kind="stable"), np.zeros(values.size)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        mean, spread = values[rows].mean(), values[rows].std()
        if spread > ALIKE * abs(mean):
            found[rows] = (values[rows] - mean) / spread
    return found
