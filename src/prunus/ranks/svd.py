"""SVD: the singular parts of each weight with the least energy go, and two thin layers take its place (Eckart and Young 1936).

Removes: ranks of linear layers and convolutions; a layer becomes two where that has fewer parameters, and stays as it is elsewhere.
Needs: the weights only.
Cost: one singular value decomposition of each weight, O(p q min(p, q)); again for each weight that is cut, where ranks are global.
Departures: none from the textbook. `by="energy"` is the energy threshold of TRP (Xu et al. 2018), one for all layers, as high as the
 budget allows; `by="value"` ranks bare singular values, which favour layers of large scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from prunus.core.errors import UnknownName
from prunus.core.registry import solver
from prunus.maths.rank_parts import Components, by_energy


@solver(unit="ranks", needs=("weight",), scope="global", card="trp")
def svd(matrix: Any, *, by: Literal["energy", "value"] = "energy") -> Components:
    """Singular parts, sqrt of the singular value on both sides.

    Args:
        matrix: `.weight [b, p, q]`.
        by: scores: the share of the energy lost with a part and all smaller ones, or the singular value.

    Returns:
        Components whose `left @ right` is the weight.
    """
    if by not in ("energy", "value"):
        raise UnknownName("score of singular parts", by, ("energy", "value"))
    parts = by_energy(matrix.weight, getattr(matrix, "name", ""))
    if by == "energy":
        return parts
    return replace(
        parts, scores=parts.left.square().sum(1).square().sum(0).sqrt()
    )  # each side holds half a singular value
