"""CKA: blocks without which the last features stay as they are go first (Jordao et al. 2023, after training).

Removes: layers (blocks whose output has the shape of their input).
Needs: a few hundred rows, no labels; a trained network.
Cost: one forward pass more for each block (against="without").
Departures: features of maps and texts are averaged over positions before they are compared. One shot; for one block at
 a time plan `drop 1 layers` again on what is left. Features that do not vary at all count as unlike everything.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.core.errors import NonFinite
from prunus.core.registry import criterion


@criterion(unit="layers", needs=("block_cka_without", "block_cka"), sense="keep", card="layer-lottery")
def cka(layer: Any, *, against: Literal["without", "input"] = "without") -> Tensor:
    """1 - linear CKA: how far the block moves features.

    Args:
        layer: `.block_cka_without` and `.block_cka`.
        against: the last features of the network without the block, or the block's own input.

    Returns:
        float64 scalar in 0..1.
    """
    value = layer.block_cka_without if against == "without" else layer.block_cka
    likeness = torch.as_tensor(value, dtype=torch.float64)
    if not torch.isfinite(likeness):
        raise NonFinite(f"block {getattr(layer, 'name', '')} has CKA {float(likeness)}: NaN features, or no row")
    return 1 - likeness
