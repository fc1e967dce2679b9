"""nn.MultiheadAttention whose heads and width are free.

torch's own class insists on heads x head width = width of the model, so neither can be pruned alone. This subclass keeps
its parameters and state-dict keys, and computes the same function for any number of heads and any head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PrunedMultiheadAttention(nn.MultiheadAttention):
    """Multi-head attention with `num_heads` heads of any width; `scale` stays what it was in the dense model."""

    scale: float

    def forward(  # the signature of nn.MultiheadAttention
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Same inputs and outputs as `nn.MultiheadAttention.forward`."""
        single = query.dim() == 2
        place = 0 if self.batch_first else 1
        q, k, v = self._project(query, key, value)
        if single:
            q, k, v = q.unsqueeze(place), k.unsqueeze(place), v.unsqueeze(place)
        if not self.batch_first:
            q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.scale) @ k.transpose(-2, -1)
            weights = F.softmax(scores if mask is None else scores + mask, dim=-1)
            out = F.dropout(weights, dropout) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=self.scale)
        out = F.linear(out.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)
        out = out if self.batch_first else out.transpose(0, 1)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if single:
            out, weights = out.squeeze(place), None if weights is None else weights.squeeze(0)
        return out, weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not isinstance(self.in_proj_weight, Tensor):  # inputs of different widths  # pyright: ignore[reportUnnecessaryIsInstance]
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key and key is value:
            q, k, v = F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
            return q, k, v
        else:
            weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3) if isinstance(self.in_proj_bias, Tensor) else (None, None, None)  # pyright: ignore[reportUnnecessaryIsInstance]
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
        return q, k, v

    def _mask(self, mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """One additive mask `[B or 1, H or 1, L or 1, S]`."""
        total = None if mask is None else _additive(mask, q)
        if total is not None and total.dim() == 3:
            total = total.unflatten(0, (q.shape[0], -1)) if total.shape[0] > 1 else total.unsqueeze(0)
        if padding is None:
            return total
        extra = _additive(padding, q)
        extra = extra[None, None, None] if extra.dim() == 1 else extra[:, None, None]
        return extra if total is None else total + extra


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
    return mask.to(like.dtype)


def can_free(module: nn.Module) -> bool:
    """True for torch's own class in its usual form."""
    return type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn


def free(module: nn.Module) -> None:
    """Turn torch's attention into the free one, in place; the function stays the same."""
    if can_free(module):
        attention = module
        scale = float(attention.head_dim) ** -0.5  # pyright: ignore[reportArgumentType]
        attention.__class__ = PrunedMultiheadAttention
        vars(attention)["scale"] = scale
        vars(attention)["_was_fused"] = attention._qkv_same_embed_dim
        vars(attention)["_qkv_same_embed_dim"] = False  # keeps nn.TransformerEncoderLayer off its fused path


@contextmanager
def freed(model: nn.Module) -> Iterator[bool]:
    """Attention of a model freed inside the block, put back after it; yields whether there is any."""
    changed = [module for module in model.modules() if can_free(module)]
    for module in changed:
        free(module)
    try:
        yield bool(changed)
    finally:
        for module in changed:
            module.__class__ = nn.MultiheadAttention
            vars(module)["_qkv_same_embed_dim"] = vars(module).pop("_was_fused")
            del vars(module)["scale"]
