"""Random: singular parts of each weight drawn at random, the control of every method over ranks.

Removes: ranks of linear layers and convolutions.
Needs: the weights only.
Cost: one singular value decomposition of each weight.
Departures: none; the draw depends on seed and parameter name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from prunus.core.registry import solver
from prunus.core.rng import Rng
from prunus.maths.rank_parts import Components, by_energy


@solver(unit="ranks", needs=("weight",), scope="group")
def random(matrix: Any, *, rng: Rng) -> Components:
    """Singular parts with scores uniform in [0, 1).

    Args:
        matrix: `.weight [b, p, q]`.
        rng: the draw.

    Returns:
        Components whose `left @ right` is the weight.
    """
    parts = by_energy(matrix.weight, getattr(matrix, "name", ""))
    return replace(parts, scores=torch.from_numpy(rng.uniform(np.arange(len(parts.scores)))))
