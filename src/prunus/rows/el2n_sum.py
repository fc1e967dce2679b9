"""EL2N summed over training: errors at the presentations of the first epochs (as in the code of Zheng et al. 2022).

Removes: rows. Large is hard.
Needs: the sum of ||p - y||_2 over the presentations of the first epochs (10 in the released code), train mode,
  augmented.
Cost: one training run, one number for each row.
Departures: another quantity than el2n, which is one eval pass averaged over runs; the name says so.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real


@criterion(unit="rows", needs=("el2n_sum",), sense="hard", card="ccs")
def el2n_sum(s: Any) -> Tensor:
    """The recorded sum, `[n]`.

    Args:
        s: signals with `el2n_sum [n]`.
    """
    return real(s.el2n_sum)
