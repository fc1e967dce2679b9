"""Wrong labels put in on purpose: how a method does on data that people labelled, where the share of errors is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.rng import Rng


def symmetric(labels: NDArray[np.generic], ids: NDArray[np.generic], share: float, rng: Rng) -> NDArray[np.int64]:
    """Labels of which about `share` are wrong, each wrong class being as likely as any other.

    A row's draw depends on its id alone: rows added later, or in another order, change nothing for the others.

    Args:
        labels: `[n]`, whole numbers.
        ids: `[n]`, aligned with labels.
        share: of rows whose label changes, in 0..1, on average.
        rng: seed and purpose of the draw.

    Returns:
        int64 `[n]`.

    Raises:
        BadInput: the labels are no classes, or there is only one.
    """
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "biu":
        raise BadInput(f"label noise needs one class for each row, not labels of {given.dtype} {list(given.shape)}")
    classes, place = np.unique(given, return_inverse=True)
    if classes.size < 2:
        raise BadInput(f"label noise needs two classes or more, and every row here has the label {classes.tolist()}")
    wrong = rng.child("which").uniform(ids) < share
    step = 1 + (rng.child("class").uniform(ids) * (classes.size - 1)).astype(np.int64)
    return np.where(wrong, classes[(place + step) % classes.size], given).astype(np.int64)
