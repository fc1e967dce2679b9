"""Loss: the loss of each row under one model.

Removes: rows. Large is hard.
Needs: loss of each row, eval mode.
Cost: one forward pass; O(n).
Departures: own; a baseline. Heavy-tailed: with ccs use `clip`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real


@criterion(unit="rows", needs=("loss",), sense="hard", card="ccs")
def loss(s: Any) -> Tensor:
    """The recorded loss, `[n]`.

    Args:
        s: signals with `loss [n]`.
    """
    return real(s.loss)
