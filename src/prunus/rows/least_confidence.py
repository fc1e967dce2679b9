"""Least confidence: one minus the largest predicted probability (Lewis and Gale 1994; in Settles 2009).

Removes: rows. Large is hard.
Needs: probabilities.
Cost: one forward pass; O(n c).
Departures: of probabilities; DeepCore's code takes raw logits, and without balance keeps the most certain rows.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real


@criterion(unit="rows", needs=("probs",), sense="hard", card="coreset-baselines")
def least_confidence(s: Any) -> Tensor:
    """`1 - max p`, `[n]` in [0, 1).

    Args:
        s: signals with `probs [n, c]`.
    """
    return 1 - real(s.probs).amax(-1)
