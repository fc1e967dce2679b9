"""Keeping T tokens of each example: ties go to the lower index, kept tokens stay in raster order, every example keeps T."""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput, NonFinite


def check_count(count: int, tokens: int) -> int:
    """The number of tokens that stay: at most all of them.

    Raises:
        BadInput: count below 1. An example without tokens is no example.
    """
    if count < 1:
        raise BadInput(f"keep at least 1 token of {tokens}, not {count}")
    return min(int(count), tokens)


def keep_top(scores: Tensor, count: int) -> Tensor:
    """Positions of the `count` highest scores of each example.

    Args:
        scores: float `[B, N]`, large stays.
        count: T; `T >= N` keeps all.

    Returns:
        int64 `[B, min(T, N)]`, ascending, so kept tokens stay in raster order. Equal scores: the lower index stays.

    Raises:
        BadInput: T < 1, or scores that are not `[B, N]`.
        NonFinite: a score is NaN.
    """
    if scores.dim() != 2:
        raise BadInput(f"token scores must be [B, N], not {list(scores.shape)}")
    count = check_count(count, scores.shape[1])
    _refuse_nan(scores)
    # A stable sort leaves equal scores in index order; torch.topk promises nothing.
    order = scores.sort(dim=1, descending=True, stable=True).indices
    return order[:, :count].sort(dim=1).values


def keep_mask(kept: Tensor, tokens: int) -> Tensor:
    """Boolean `[B, N]` of positions `[B, T]`."""
    mask = torch.zeros(kept.shape[0], tokens, dtype=torch.bool, device=kept.device)
    return mask.scatter_(1, kept, True)


def gather(tokens: Tensor, kept: Tensor, *, prefix: int = 0) -> Tensor:
    """The leading `prefix` tokens and the kept ones, really copied out.

    Args:
        tokens: `[B, prefix + N, ...]`.
        kept: int64 `[B, T]`, positions among the N.
        prefix: leading tokens that always stay.

    Returns:
        `[B, prefix + T, ...]`.
    """
    index = kept + prefix
    if prefix:
        head = torch.arange(prefix, device=kept.device).expand(kept.shape[0], prefix)
        index = torch.cat([head, index], dim=1)
    shape = (*index.shape, *([1] * (tokens.dim() - 2)))
    return tokens.gather(1, index.view(shape).expand(*index.shape, *tokens.shape[2:]))


def _refuse_nan(scores: Tensor) -> None:
    if torch.compiler.is_compiling():
        return
    bad = scores.isnan()
    if bool(bad.any()):
        where = bad.nonzero()[:5].tolist()
        raise NonFinite(f"{int(bad.sum())} token scores are NaN, at [example, token] {where}: the encoder produced NaN")
