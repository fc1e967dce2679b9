"""Random: a number drawn for each channel, the control of every channel criterion.

Removes: channels, neurons, heads.
Needs: nothing.
Cost: none.
Departures: none; the draw depends on seed, group name and unit, not on order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.registry import criterion
from prunus.core.rng import Rng


@criterion(unit="channels", sense="keep")
def random(group: Any, *, rng: Rng) -> Tensor:
    """Uniform in [0, 1).

    Args:
        group: `.name`, `.size`.
        rng: the draw.

    Returns:
        float64 `[size]`.
    """
    return torch.from_numpy(rng.child(str(group.name)).uniform(np.arange(group.size)))
