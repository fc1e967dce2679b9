"""FasterVLM: attention of the CLS token in the vision encoder (Zhang et al. 2024). Keeps what the encoder itself looks at.

Removes: visual tokens between the vision encoder and what reads them, T per image, per tile, per frame.
Needs: a vision encoder with a CLS token; one attention row per image, recomputed from q and k. No labels, text or training.
Cost: heads * N * d multiplications per image; afterwards the reader sees T tokens instead of N.
Departures: the released code asks every layer for its attention weights, which turns fused kernels off everywhere; here one row
    of one layer is recomputed and the kernels stay on. It projects all N tokens and drops afterwards; here only the kept ones
    are projected, which is the same per token. Ties go to the lower index. Encoders without CLS raise an error: choose
    `tokens/received` knowingly.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion


@criterion(unit="tokens", at="vision.output", needs=("cls_attention",), sense="keep", card="fastervlm")
def fastervlm(s: Any) -> Tensor:
    """Mean over heads of the CLS row. `s.cls_attention` `[B, heads, T]` -> `[B, T]`."""
    return s.cls_attention.mean(1)
