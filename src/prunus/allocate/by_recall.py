"""By recall: more rows for the classes that a model gets wrong (the quotas of DRoP, Vysogorets et al. 2025).

Removes: nothing itself; splits a budget over classes.
Needs: class sizes; the recall of each class on validation rows. Floors and caps where given.
Cost: O(g log g); the recalls cost one pass of a trained model over the validation rows.
Departures: none known: no code was found, so this follows the formula. Quota = total * size * (1 - recall) / sum over the
  classes, at most the size; what a full class can't take goes to the others in proportion, again and again. Rounding is by
  largest remainder. A class of recall 1 keeps its floor only, and shares what is left when all others are full.
"""

from __future__ import annotations

import numpy as np

from prunus.allocate.apportion import apportion
from prunus.allocate.request import Counts, Request
from prunus.core.errors import BadInput
from prunus.core.registry import allocator


@allocator(needs=("recalls",), val=("probs", "labels"))
def by_recall(request: Request, *, recall: tuple[float, ...] | None = None) -> Counts:
    """Counts in proportion to `size * (1 - recall)`, projected onto floors, caps and the total.

    Args:
        request: the groups and the total, with the recall of each group unless it is given here.
        recall: share of each class's validation rows that is classified rightly, in the order of the classes.

    Returns:
        int64 `[g]`.

    Raises:
        BadInput: no recalls, another number of them, or one outside [0, 1].
    """
    known = request.recalls if recall is None else np.asarray(recall, dtype=np.float64)
    if known is None:
        raise BadInput(
            "by_recall needs the recall of each class on validation rows: pass val= (signals of these rows with probs and "
            "labels; prunus plan --val FOLDER), or recall= (one number for each class)"
        )
    if known.shape != request.sizes.shape or not ((known >= 0) & (known <= 1)).all():
        raise BadInput(
            f"recall must be one number in [0, 1] for each of {request.sizes.size} classes, not {known.tolist()}"
        )
    return apportion(request, request.sizes * (1 - known))
