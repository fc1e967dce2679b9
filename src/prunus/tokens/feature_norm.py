"""Feature norm: the length of a token's feature vector. A control that is no dummy: it wins behind early blocks.

Removes: visual tokens.
Needs: the features at the place of pruning.
Cost: N * d multiplications per image.
Departures: none; `lowest=True` keeps the short ones.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion


@criterion(unit="tokens", at="vision.output", needs=("features",), sense="keep")
def feature_norm(s: Any, *, lowest: bool = False) -> Tensor:
    """Euclidean norm of each token. `s.features` `[B, T, d]` -> `[B, T]`.

    Args:
        lowest: keep the shortest tokens instead.
    """
    norm = s.features.norm(dim=-1)
    return -norm if lowest else norm
