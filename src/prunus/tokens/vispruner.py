"""VisPruner: some tokens by CLS attention, the rest by being different (Zhang et al. 2025). The successor of FasterVLM.

Removes: visual tokens: near-duplicates among those the CLS token does not look at.
Needs: a score per token (CLS attention) and the token features.
Cost: rounds of cosine similarity between two halves of the remainder, at most N * N * d / 4 each, 8 tokens leave per round.
Departures: an odd remainder breaks the released loop (it reshapes by R // 2); here the even positions are one more than the odd.
    Ties go to the token that comes first in the round's order. `important_ratio=1` is FasterVLM.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.tokens.select import check_count, keep_top

PER_ROUND = 8


def keep_diverse(scores: Tensor, features: Tensor, count: int, important_ratio: float = 0.5) -> Tensor:
    """Positions of `int(count * important_ratio)` important tokens and of diverse ones among the others.

    Args:
        scores: float `[B, N]`, large is important.
        features: float `[B, N, C]`.
        count: T.
        important_ratio: share of T chosen by score, in [0, 1].

    Returns:
        int64 `[B, min(T, N)]`, ascending.
    """
    if not 0 <= important_ratio <= 1:
        raise BadInput(f"important_ratio is a share in [0, 1], not {important_ratio}")
    if features.shape[:2] != scores.shape:
        raise BadInput(f"features {list(features.shape)} do not belong to scores {list(scores.shape)}")
    count = check_count(count, scores.shape[1])
    keep_top(scores, count)  # refuses NaN
    order = scores.sort(dim=1, descending=True, stable=True).indices
    important = int(count * important_ratio)
    rest = _thin(order[:, important:], F.normalize(features, dim=-1), count - important)
    return torch.cat([order[:, :important], rest], dim=1).sort(dim=1).values


def _thin(rest: Tensor, unit: Tensor, target: int) -> Tensor:
    """Drop near-duplicates from `rest` `[B, R]` (positions, most important first) until `target` remain."""
    if target == 0:
        return rest[:, :0]
    while (drop := min(PER_ROUND, rest.shape[1] - target)) > 0:
        even, odd = rest[:, ::2], rest[:, 1::2]
        similarity = (_rows(unit, even) @ _rows(unit, odd).transpose(1, 2)).amax(2)
        by_similarity = similarity.sort(dim=1, descending=True, stable=True).indices
        rest = torch.cat([even.gather(1, by_similarity[:, drop:]), odd], dim=1)
    return rest


def _rows(features: Tensor, index: Tensor) -> Tensor:
    return features.gather(1, index.unsqueeze(-1).expand(-1, -1, features.shape[-1]))


@selector(unit="tokens", needs=("features",), card="fastervlm")
def vispruner(score: GroupScore, count: int, *, important_ratio: float = 0.5) -> np.ndarray:
    """Positions of the kept tokens of one image, int64 `[count]`, ascending.

    Args:
        important_ratio: share of the kept tokens that is chosen by score; 1 is FasterVLM, 0 diversity alone.
    """
    features = torch.as_tensor(score.signals.features)[None]
    values = torch.as_tensor(score.values)[None]
    return keep_diverse(values, features, count, important_ratio)[0].numpy()
