"""Random: a number drawn for each weight, the control of every weight criterion.

Removes: weights.
Needs: nothing.
Cost: one hash of each weight's position.
Departures: none; the draw depends on seed, layer name and position, not on order or blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.registry import criterion
from prunus.core.rng import Rng


@criterion(unit="weights", needs=("weight",), sense="keep", within="group")
def random(layer: Any, *, rng: Rng) -> Tensor:
    """Uniform in [0, 1).

    Args:
        layer: `.weight [outputs, inputs]`, `.name`.
        rng: the draw.

    Returns:
        float64 `[outputs, inputs]`.
    """
    draw = rng.child(str(getattr(layer, "name", ""))).uniform(np.arange(layer.weight.numel()))
    return torch.from_numpy(draw).reshape(layer.weight.shape)
