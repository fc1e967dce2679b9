"""Margin: how far other classes are ahead of the label (Paul et al. 2021, max and sum margin).

Removes: rows. Large is hard.
Needs: probabilities of a model trained for a few epochs, eval mode; labels, one class for each row.
Cost: as el2n.
Departures: none.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import classes, margin_to_rival, real


@criterion(unit="rows", needs=("probs", "labels"), sense="hard", card="data-diet")
def margin(s: Any, *, kind: Literal["max", "sum"] = "max") -> Tensor:
    """`max over k != y of (p_k - p_y)`, in [-1, 1], or the sum over k != y, `[n]`.

    Args:
        s: signals with `probs [n, c]` and `labels [n]`.
        kind: max compares with the best other class, sum with all of them.
    """
    if kind == "max":
        return -margin_to_rival(s.probs, s.labels)
    probs = real(s.probs)
    own = probs.gather(1, classes(s.labels, probs)[:, None])
    return (probs - own).sum(-1)  # the label's own term is 0
