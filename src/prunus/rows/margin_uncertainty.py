"""Margin uncertainty: one minus the gap between the two largest probabilities (Scheffer et al. 2001; in Settles 2009).

Removes: rows. Large is hard.
Needs: probabilities of two classes or more; no labels.
Cost: one forward pass; O(n c).
Departures: keeps the most uncertain rows, where DeepCore's code without balance keeps the most certain ones. The
  margin to the label is `rows/margin`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion
from prunus.rows.targets import real


@criterion(unit="rows", needs=("probs",), sense="hard", card="coreset-baselines")
def margin_uncertainty(s: Any) -> Tensor:
    """`1 - (p_(1) - p_(2))`, `[n]` in [0, 1].

    Args:
        s: signals with `probs [n, c]`.
    """
    probs = real(s.probs)
    if probs.shape[-1] < 2:
        raise BadInput("the gap between two classes needs at least two classes")
    best = probs.topk(2, dim=-1).values
    return 1 - (best[..., 0] - best[..., 1])
