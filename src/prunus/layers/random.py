"""Random: a number drawn for each layer, the control of every layer criterion.

Removes: layers.
Needs: nothing.
Cost: none.
Departures: none; the draw depends on seed and layer name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.registry import criterion
from prunus.core.rng import Rng


@criterion(unit="layers", sense="keep", pin="first")
def random(layer: Any, *, rng: Rng) -> Tensor:
    """Uniform in [0, 1).

    Args:
        layer: `.name`.
        rng: the draw.

    Returns:
        float64 scalar.
    """
    return torch.tensor(float(rng.uniform(np.array([str(layer.name)]))[0]), dtype=torch.float64)
