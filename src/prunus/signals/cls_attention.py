"""Attention of the CLS query, and attention each token receives, recomputed from q and k of one attention module.

The attention weights of a fused kernel (sdpa, flash) are never materialised, and transformers 5 then returns an EMPTY tuple
without a word. One query row is cheap to recompute, so the fused kernel stays on: `q = W_q h_cls`, and because
`q . (W_k h_j + b_k) = (W_k^T q) . h_j + q . b_k`, the keys are never formed either (the last term is the same for every j and
leaves the softmax): cost heads * N * d instead of N * d * d. With a key norm the keys are formed.

Knows three layouts by their attributes, never by class path: `qkv` (timm), `q_proj` / `k_proj` (transformers), and
`torch.nn.MultiheadAttention`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunus.core.errors import BadInput

PROVIDES = ("cls_attention", "received_attention")
VERSION = 1
MEMORY = "cls_attention: rows * heads * tokens * 4 bytes; received_attention: the same, and heads * 64 * tokens at work"

QUERY_BLOCK = 64


@dataclass(frozen=True)
class Projections:
    """The parts of an attention module that make its weights. Weights are `[heads * head_dim, d]`."""

    query_weight: Tensor
    query_bias: Tensor | None
    key_weight: Tensor
    key_bias: Tensor | None
    head_dim: int
    scale: float
    query_norm: nn.Module | None = None
    key_norm: nn.Module | None = None

    def queries(self, hidden: Tensor) -> Tensor:
        """`[B, n, d]` -> `[B, heads, n, head_dim]`, normed and scaled."""
        q = self._heads(F.linear(hidden, self.query_weight, self.query_bias))
        return (q if self.query_norm is None else self.query_norm(q)) * self.scale

    def keys(self, hidden: Tensor) -> Tensor:
        """`[B, n, d]` -> `[B, heads, n, head_dim]`, normed."""
        k = self._heads(F.linear(hidden, self.key_weight, self.key_bias))
        return k if self.key_norm is None else self.key_norm(k)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], -1, self.head_dim).transpose(1, 2)


def _norm(module: nn.Module | None) -> nn.Module | None:
    return None if module is None or isinstance(module, nn.Identity) else module


def _thirds(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Query and key parts of a fused projection whose rows are q, then k, then v."""
    q, k, _ = weight.chunk(3)
    if bias is None:
        return q, None, k, None
    return q, bias.chunk(3)[0], k, bias.chunk(3)[1]


def projections(attention: nn.Module) -> Projections:
    """Find the query and key projections of an attention module.

    Args:
        attention: timm Attention (`qkv`), a transformers vision attention (`q_proj`, `k_proj`) or torch MultiheadAttention.

    Raises:
        BadInput: another layout, or rotary / extra keys, for which one recomputed row would be wrong.
    """
    if isinstance(attention, nn.MultiheadAttention):
        return _torch_projections(attention)
    kind = type(attention).__name__
    if (
        hasattr(attention, "rope")
        or "Rope" in kind
        or "RelPos" in kind
        or getattr(attention, "rel_pos", None) is not None
    ):
        raise BadInput(f"{kind} adds positions to its attention; its weights can't be recomputed from q and k alone")
    head_dim = getattr(attention, "head_dim", None)
    scale = getattr(attention, "scale", None) or getattr(attention, "scaling", None)
    qkv, q, k = (getattr(attention, name, None) for name in ("qkv", "q_proj", "k_proj"))
    if isinstance(qkv, nn.Linear) and head_dim and scale:
        parts = _thirds(qkv.weight, qkv.bias)
    elif isinstance(q, nn.Linear) and isinstance(k, nn.Linear) and head_dim and scale:
        parts = (q.weight, q.bias, k.weight, k.bias)
    else:
        raise BadInput(
            f"can't read queries and keys of {kind}: it needs head_dim, scale and a linear qkv, or q_proj and k_proj"
        )
    norms = (_norm(getattr(attention, name, None)) for name in ("q_norm", "k_norm"))
    return Projections(*parts, int(head_dim), float(scale), *norms)


def _torch_projections(attention: nn.MultiheadAttention) -> Projections:
    if attention.bias_k is not None or attention.add_zero_attn:
        raise BadInput(
            "MultiheadAttention with add_bias_kv or add_zero_attn has a key that is no token; it is not supported"
        )
    weight: Tensor | None = getattr(attention, "in_proj_weight", None)  # None for kdim or vdim, whatever its type says
    if weight is None:
        raise BadInput(
            "MultiheadAttention with kdim or vdim other than embed_dim is cross attention, not a token encoder"
        )
    head_dim: int = getattr(attention, "head_dim")  # noqa: B009  torch leaves its type open
    return Projections(*_thirds(weight, attention.in_proj_bias), head_dim, head_dim**-0.5)


def cls_attention(attention: nn.Module, hidden: Tensor, *, prefix: int = 1, query: int = 0) -> Tensor:
    """Attention of the CLS query to the patch keys: the CLS row of the softmax over ALL keys, not renormalised.

    Args:
        attention: the attention module (see `projections`).
        hidden: its input, after the block's norm, `[B, prefix + T, d]`.
        prefix: leading tokens that are no patches (CLS, registers); their columns are dropped.
        query: position of the CLS token.

    Returns:
        `[B, heads, T]`, float32 or wider.

    Raises:
        BadInput: no patch left, or a layout that can't be read.
    """
    _check_hidden(hidden, prefix)
    parts = projections(attention)
    q = parts.queries(hidden[:, query : query + 1])
    if parts.key_norm is None:
        back = torch.einsum("bhqe,hed->bhqd", q, parts.key_weight.unflatten(0, (-1, parts.head_dim)))
        logits = back.flatten(1, 2) @ hidden.transpose(1, 2)
    else:
        logits = (q @ parts.keys(hidden).transpose(-2, -1)).squeeze(2)
    return _softmax(logits)[:, :, prefix:]


def received_attention(attention: nn.Module, hidden: Tensor, *, prefix: int = 0) -> Tensor:
    """Attention each patch receives: the mean over all queries of its column, for encoders without a CLS token.

    Args:
        attention: the attention module (see `projections`).
        hidden: its input, after the block's norm, `[B, prefix + T, d]`.
        prefix: leading tokens that are no patches; their columns are dropped, their queries count.

    Returns:
        `[B, heads, T]`. Queries run in blocks of 64, so no `N x N` matrix is held.
    """
    _check_hidden(hidden, prefix)
    parts = projections(attention)
    keys = parts.keys(hidden).transpose(-2, -1)
    total: Tensor | None = None
    for start in range(0, hidden.shape[1], QUERY_BLOCK):
        part = _softmax(parts.queries(hidden[:, start : start + QUERY_BLOCK]) @ keys).sum(2)
        total = part if total is None else total + part
    assert total is not None
    return (total / hidden.shape[1])[:, :, prefix:]


def _softmax(logits: Tensor) -> Tensor:
    """At least float32, as the eager kernels do."""
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _check_hidden(hidden: Tensor, prefix: int) -> None:
    if hidden.dim() != 3 or hidden.shape[1] <= prefix:
        raise BadInput(f"hidden must be [B, {prefix} + patches, d] with a patch at least, not {list(hidden.shape)}")
