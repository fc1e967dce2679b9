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


@criterion(unit="rows", needs=("times_correct", "times_seen"), sense="easy", card="ccs")
def correctness(s: Any, *, average: bool = False) -> Tensor:
    """Correct presentations, float32 `[n]`.

    Args:
        s: signals with `times_correct [n]` and, for the average, `times_seen [n]`.
        average: divide by the number of presentations.
    """
    total = s.times_correct.float()
    return total / s.times_seen.clamp(min=1) if average else total
