"""EL1N: sum of the absolute errors |p - y|, early in training (Paul et al. 2021, the L1 variant).

Removes: rows. Large is hard.
Needs: as el2n.
Cost: as el2n.
Departures: none.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real, soft


@criterion(unit="rows", needs=("probs", "labels"), sense="hard", card="data-diet")
def el1n(s: Any) -> Tensor:
    """`||p - y||_1`, `[n]` in [0, 2].

    Args:
        s: signals with `probs [n, c]` and `labels` `[n]` or `[n, c]`.
    """
    probs = real(s.probs)
    return (probs - soft(s.labels, probs)).abs().sum(-1)
