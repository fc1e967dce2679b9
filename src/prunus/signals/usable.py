"""Rows whose signals say nothing: numbers that are not finite, embeddings that are zero. Named, or quarantined."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from prunus.signals.rowset import CHUNK, Signals

WHAT = "quarantined: a signal is not finite, or the embedding is zero"


def unusable(signals: Signals, names: Iterable[str]) -> np.ndarray:
    """Which rows can't be judged by these signals, bool `[n]`; names that are not there are passed over.

    Args:
        signals: of n rows, read in blocks.
        names: of fields. Logits may be infinite, an embedding may not be zero.
    """
    wrong = np.zeros(len(signals), dtype=bool)
    for name in sorted(set(names) & set(signals.names)):
        field = signals.field(name)
        for low in range(0, len(field), CHUNK):
            part = field[low : low + CHUNK].flatten(1) if field.dim() > 1 else field[low : low + CHUNK, None]
            if part.is_floating_point():
                bad = torch.isnan(part) if name == "logits" else ~torch.isfinite(part)
                wrong[low : low + CHUNK] |= bad.any(1).numpy()
            if name == "embedding":
                wrong[low : low + CHUNK] |= ~part.any(1).numpy()
    return wrong
