"""Random-balanced: random rows, the same share of every label: the simple rule that every row method must beat.

Removes: rows.
Needs: labels, all at once.
Cost: O(n log n).
Departures: own. Inside a label rows are put in random order, and the j-th of n_c scores 1 - (j - 1/2) / n_c: keeping
  the largest scores of all labels together keeps shares as equal as whole rows allow (the rule of Webster and
  Sainte-Laguë), adds up exactly, and keeps a subset when the budget is smaller. `select/random` with `within="class"`
  draws with largest remainders instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion

if TYPE_CHECKING:
    from prunus.core.rng import Rng


@criterion(unit="rows", needs=("labels",), sense="keep", whole=True)
def random_balanced(s: Any, *, rng: Rng) -> Tensor:
    """Scores whose largest are a random sample balanced over the labels, float64 `[n]` in (0, 1).

    Args:
        s: signals with `ids [n]` and `labels [n]`.
        rng: seed and purpose.
    """
    labels = np.asarray(s.labels)
    if labels.ndim != 1:
        raise BadInput(f"random_balanced needs one label for each row, not labels of shape {labels.shape}")
    _, members = np.unique(labels, return_inverse=True)
    sizes = np.bincount(members)
    order = np.lexsort((s.ids, rng.uniform(s.ids), members))
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size)
    inside = place - (np.cumsum(sizes) - sizes)[members]
    return torch.from_numpy(1 - (inside + 0.5) / sizes[members])
