"""Lowest CLS attention: keeps what the CLS token looks at least. A sanity control: it must lose.

Removes: visual tokens.
Needs: the same as `tokens/fastervlm`.
Cost: the same as `tokens/fastervlm`.
Departures: none.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion


@criterion(unit="tokens", at="vision.output", needs=("cls_attention",), sense="keep")
def lowest(s: Any) -> Tensor:
    """Minus the head mean of the CLS row. `s.cls_attention` `[B, heads, T]` -> `[B, T]`."""
    return -s.cls_attention.mean(1)
