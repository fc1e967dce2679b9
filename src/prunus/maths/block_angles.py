"""How far a run of blocks turns the last token: which run of consecutive blocks can go (Gromov et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.maths.cosine import angle, cosine


def block_angles(hidden: Tensor, mask: Tensor | None, length: int) -> Tensor:
    """Mean angle over pi between what enters a run of blocks and what leaves it, at the last real token of each sequence.

    Args:
        hidden: `[blocks + 1, sequences, tokens, d]`; the first is what enters the first block, the last is taken before the final norm.
        mask: int or bool `[sequences, tokens]`, 1 at real tokens, on either side; None for no padding.
        length: blocks in a run.

    Returns:
        float64 `[blocks + 1 - length]`, in [0, 1]; the run that starts at its smallest (the first of equal ones) turns least.

    Raises:
        BadInput: a run as long as all blocks, or a sequence without a token.
    """
    blocks = hidden.shape[0] - 1
    if not 0 < length < blocks:
        raise BadInput(f"a run has 1 to {blocks - 1} of {blocks} blocks, not {length}")
    real = torch.ones(hidden.shape[1:3]) if mask is None else mask.to(torch.float32)
    if not bool(real.any(1).all()):
        raise BadInput("a sequence has no real token")
    places = torch.arange(real.shape[1], dtype=torch.float32) + 1
    last = (real * places).argmax(1)
    states = hidden[:, torch.arange(hidden.shape[1]), last].double()
    return angle(cosine(states[:-length], states[length:])).mean(1)
