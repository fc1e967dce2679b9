"""Layer lottery: blocks whose weights matter least at initialisation go before training (Jordao et al. 2023).

Removes: layers (blocks whose output has the shape of their input).
Needs: the initial weights; for GraSP and SNIP labelled rows, ten of each class do; L1 and synflow read no data values.
Cost: GraSP three forward and backward passes of the rows, one of them twice differentiated; SNIP one; L1 none.
Departures: no code was released. The released papers' sign at block level is not known: blocks with the largest |GraSP|
 stay (sign="abs"). Norms keep their running statistics while scoring, where GraSP takes those of the batch: re-estimate
 them first on a network that was never trained. One shot; for one block at a time plan `drop 1 layers` again on what is
 left. The last of each chain stays, whatever its score. Likeness of features with and without a block is the criterion
 cka.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.core.errors import NonFinite, UnknownName
from prunus.core.registry import criterion

BY = ("grasp", "snip", "l1", "synflow")


@criterion(
    unit="layers",
    needs=("block_grasp", "block_snip", "block_l1", "block_synflow", "block_weights"),
    sense="keep",
    card="layer-lottery",
)
def layer_lottery(
    layer: Any,
    *,
    by: Literal["grasp", "snip", "l1", "synflow"] = "grasp",
    sign: Literal["abs", "high", "low"] = "abs",
    per_weight: bool = False,
) -> Tensor:
    """Saliency of one block, summed over its weight matrices.

    Args:
        layer: `.block_grasp`, `.block_snip`, `.block_l1`, `.block_synflow`, `.block_weights`.
        by: which saliency.
        sign: of GraSP, whose values have both signs: the largest stay by size, as they are, or turned.
        per_weight: mean instead of sum.

    Returns:
        float64 scalar.
    """
    if by not in BY:
        raise UnknownName("saliency of blocks", by, BY)
    value = torch.as_tensor(getattr(layer, f"block_{by}"), dtype=torch.float64)
    value = value / float(layer.block_weights) if per_weight else value
    if not torch.isfinite(value):
        raise NonFinite(f"block {getattr(layer, 'name', '')} has {by} {float(value)}: look at its weights and the rows")
    return value.abs() if sign == "abs" else -value if sign == "low" else value
