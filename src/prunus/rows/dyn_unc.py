"""Dyn-Unc: how much the probability of the label wavers within short windows of training (He et al. 2024).

Removes: rows. Large stays first: rows that stay easy or stay wrong all through training hardly waver.
Needs: the probability of the label at every presentation of a whole training run, accumulated online in windows of
  J = 10 presentations (an option of the recorder); labels.
Cost: one training run. O(n J) at the end of each epoch; memory 4 n J bytes and a few numbers for each row.
Departures: the score is the mean over all windows of std_J(p_y), std with J - 1; the paper averages over T - J
  windows of T epochs, the code released with DUAL over T - J + 1 (ours), and multiplies by 10, which changes no
  order. Windows are over presentations of the row, so a row that an epoch leaves out loses no window. A row without
  a whole window is refused, not scored 0.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real, with_windows


@criterion(unit="rows", needs=("window_std", "windows"), sense="keep")
def dyn_unc(s: Any) -> Tensor:
    """The recorded mean over windows, `[n]`, 0 or more.

    Args:
        s: signals with `window_std` and `windows`, both `[n]`.

    Raises:
        BadInput: rows with fewer presentations than a window.
    """
    return with_windows(real(s.window_std), s.windows, s.ids)
