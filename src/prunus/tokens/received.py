"""Received attention: how much attention a token gets from all tokens (advice of the FasterVLM authors for encoders without CLS).

Removes: visual tokens.
Needs: one self-attention layer of the vision encoder; works without a CLS token (SigLIP).
Cost: the full attention of one layer once more, in blocks: heads * N * N * head_dim.
Departures: no released code; the column mean counts every query, the token's own included.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion


@criterion(unit="tokens", at="vision.output", needs=("received_attention",), sense="keep", card="fastervlm")
def received(s: Any) -> Tensor:
    """Mean over heads of the column means. `s.received_attention` `[B, heads, T]` -> `[B, T]`."""
    return s.received_attention.mean(1)
