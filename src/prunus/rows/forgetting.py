"""Forgetting: how often a row went from right to wrong during training (Toneva et al. 2019).

Removes: rows. Large is hard.
Needs: counts recorded in one training run (train mode, augmented batches, every presentation): forgetting events,
  correct presentations, presentations.
Cost: one training run, three numbers for each row.
Departures: a row that was never right has no event, so it would look easiest; that is what the released code of CCS
  and DeepCore does ("zero"). Toneva's code gives it the number of epochs ("max", the default: finite, so runs can be
  added); that of Paul et al. infinity ("inf", for comparing numbers only: a Score refuses infinity).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.registry import criterion


@criterion(unit="rows", needs=("forgetting", "never_learned", "seen"), sense="hard", card="data-diet")
def forgetting(s: Any, *, never_learned: Literal["max", "inf", "zero"] = "max") -> Tensor:
    """Number of forgetting events, float32 `[n]`.

    Args:
        s: signals with `forgetting`, `never_learned` and `seen`, all `[n]`.
        never_learned: what a row scores that was never right: max = its presentations, inf, or zero.
    """
    events = s.forgetting.float()
    if (s.seen <= 0).any():
        raise BadInput(f"{int((s.seen <= 0).sum())} rows were never presented: they have no forgetting score")
    values = {"max": s.seen.float(), "inf": torch.full_like(events, float("inf")), "zero": torch.zeros_like(events)}
    if never_learned not in values:
        raise BadInput(f"never_learned must be max, inf or zero, not {never_learned!r}")
    return torch.where(s.never_learned.bool(), values[never_learned], events)


def from_matrix(correct: Tensor) -> dict[str, Tensor]:
    """The signals that forgetting needs, from a whole record.

    Args:
        correct: bool or 0/1 `[epochs, n]`: was the row right at its presentation in that epoch.

    Returns:
        forgetting, correctness and seen, int64 `[n]`, and never_learned, bool `[n]`.
    """
    if correct.dim() != 2 or not ((correct == 0) | (correct == 1)).all():
        raise BadInput(f"a correctness record is 0 or 1, [epochs, n]; got shape {list(correct.shape)}")
    right = correct.bool()
    events, seen = (right[:-1] & ~right[1:]).sum(0), torch.full((right.shape[1],), right.shape[0])
    return {"forgetting": events, "correctness": right.sum(0), "seen": seen, "never_learned": ~right.any(0)}
