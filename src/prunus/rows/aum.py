"""AUM: area under the margin, summed over training (Pleiss et al. 2020; as used by Zheng et al. 2022).

Removes: rows. Large is easy.
Needs: the sum over presentations of p_label - max of the others, recorded in one training run.
Cost: one training run, one number for each row.
Departures: of probabilities, summed, as the released code of CCS does; Pleiss et al. average margins of logits. The
  authors of CCS say that the ranking is similar and that the bounded range suits strata. `average=True` divides by
  the presentations.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real


@criterion(unit="rows", needs=("aum", "seen"), sense="easy", card="ccs")
def aum(s: Any, *, average: bool = False) -> Tensor:
    """Accumulated margin, `[n]` in [-epochs, epochs], or in [-1, 1] when averaged.

    Args:
        s: signals with `aum [n]` and, for the average, `seen [n]`.
        average: divide by the number of presentations.
    """
    total = real(s.aum)
    return total / s.seen.clamp(min=1) if average else total
