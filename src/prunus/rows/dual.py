"""DUAL: difficulty times uncertainty, early in training (Cho et al. 2025). Rows the model wavers over and rarely gets.

Removes: rows. Large stays first: neither easy rows (always sure) nor hopeless ones (never sure) waver.
Needs: the probability of the label at every presentation of the first `early` epochs (30 on CIFAR, 60 on ImageNet; an
  option of the recorder, as is the window J = 10), accumulated online: no log of outputs; labels.
Cost: `early` epochs of one training run, not a whole one. O(n J) at the end of each epoch; memory 4 n J bytes and a few
  numbers for each row.
Departures: the score is the mean over windows of std_J(p_y) * (1 - mean_J(p_y)), std with J - 1. The released code
  multiplies the std by 10, which changes no order and no draw. Windows are over presentations of the row, so a row
  that an epoch leaves out loses no window. A row without a whole window is refused, not scored 0. The paper samples
  by a Beta distribution where little is kept: `select="beta"`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real, with_windows


@criterion(unit="rows", needs=("window_dual", "early_windows"), sense="keep")
def dual(s: Any) -> Tensor:
    """The recorded mean over windows, `[n]`, 0 or more.

    Args:
        s: signals with `window_dual` and `early_windows`, both `[n]`.

    Raises:
        BadInput: rows with fewer presentations than a window.
    """
    return with_windows(real(s.window_dual), s.early_windows, s.ids)
