"""Correctness: at how many presentations a row was right during training (Swayamdipta et al. 2020).

Removes: rows. Large is easy.
Needs: the count of correct presentations, recorded in one training run.
Cost: one training run, one number for each row.
Departures: a count, as in the released code of CCS; `average=True` gives the share of presentations.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion


@criterion(unit="rows", needs=("correctness", "seen"), sense="easy", card="ccs")
def correctness(s: Any, *, average: bool = False) -> Tensor:
    """Correct presentations, float32 `[n]`.

    Args:
        s: signals with `correctness [n]` and, for the average, `seen [n]`.
        average: divide by the number of presentations.
    """
    total = s.correctness.float()
    return total / s.seen.clamp(min=1) if average else total
