"""Entropy: of the predicted probabilities (Shannon 1948; least certain rows first, as in Settles 2009).

Removes: rows. Large is hard.
Needs: probabilities.
Cost: one forward pass; O(n c).
Departures: keeps the most uncertain rows, where the released code of DeepCore keeps the most certain ones; p ln p is
  0 at 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real


@criterion(unit="rows", needs=("probs",), sense="hard", card="coreset-baselines")
def entropy(s: Any) -> Tensor:
    """`-sum p ln p`, `[n]` in [0, ln c].

    Args:
        s: signals with `probs [n, c]`.
    """
    return torch.special.entr(real(s.probs)).sum(-1)
