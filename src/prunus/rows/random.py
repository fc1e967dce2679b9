"""Random: one draw for each row, by a keyed hash of its id: the control of every row method.

Removes: rows.
Needs: ids only.
Cost: O(n).
Departures: own. Smaller budgets keep subsets of larger ones, and adding rows changes no other row's draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from prunus.core.registry import criterion

if TYPE_CHECKING:
    from prunus.core.rng import Rng


@criterion(unit="rows", needs=(), sense="keep")
def random(s: Any, *, rng: Rng) -> Tensor:
    """Uniform numbers, float64 `[n]` in [0, 1).

    Args:
        s: signals; only `ids [n]` are read.
        rng: seed and purpose.
    """
    return torch.from_numpy(rng.uniform(s.ids))
