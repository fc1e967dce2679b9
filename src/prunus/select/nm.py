"""N:M: of every M consecutive inputs of an output, the N with the largest scores stay (Mishra et al. 2021).

Removes: weights.
Needs: a score `[outputs, inputs]`; for a convolution `taps`, its kernel size, because groups run along input channels.
Cost: for M up to 16 all pairs are compared, which is faster than any sort; 2:4 on 3.5 million weights takes about
 0.01 s.
Departures: N is what STAYS (NVIDIA's 2:4); Wanda's command line counts what goes. Ragged inputs are refused, or left
 dense on request; the released loop prunes the short last group as it is. Convolutions are grouped along input
 channels; flattening groups along the kernel width first, which no kernel reads.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from prunus.core.errors import BadInput
from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.partial import keep_largest, keep_largest_of_few
from prunus.select.per_group import as_lines

FEW = 16


@selector(unit="weights", card="magnitude-nm")
def nm(
    score: GroupScore, count: int, *, m: int = 4, n: int = 0, taps: int = 1, tail: Literal["refuse", "dense"] = "refuse"
) -> np.ndarray:
    """Keep `n` of every `m` consecutive inputs.

    Args:
        score: values `[outputs, inputs * taps]`.
        count: how many stay; used only where n is 0, and then it must be a whole number in each group.
        m: size of a group.
        n: how many stay in each group; 0 = work it out from the count.
        taps: kernel taps of one input channel (kh * kw), 1 for linear layers.
        tail: what to do with inputs that fill no group: refuse, or leave them dense.

    Returns:
        int64 flat positions that stay, sorted.

    Raises:
        BadInput: inputs are not a multiple of m, or the count fits no whole n.
    """
    values = as_lines(score)
    return np.flatnonzero(nm_mask(values, n or _kept_each(score, count, m), m, taps=taps, tail=tail, name=score.name))


def _kept_each(score: GroupScore, count: int, m: int) -> int:
    size = np.asarray(score.values).size
    each, rest = divmod(count * m, size)
    if rest or not 0 < each <= m:
        raise BadInput(
            f"{count} of {size} weights is not N of every {m}: keep a multiple of {max(size // m, 1)}, or give n"
        )
    return each


def nm_mask(values: np.ndarray, n: int, m: int, *, taps: int = 1, tail: str = "refuse", name: str = "") -> np.ndarray:
    """bool `[outputs, inputs * taps]`, True stays; see `nm`."""
    if not 0 < n <= m:
        raise BadInput(f"N:M needs 0 < N <= M, not {n}:{m}")
    outputs, width = values.shape
    if width % taps:
        raise BadInput(f"{width} weights of an output of {name or 'this layer'} are not whole kernels of {taps} taps")
    channels = width // taps
    whole = channels - channels % m
    if whole < channels and tail == "refuse":
        where = name or "this layer"
        raise BadInput(f"{where} has {channels} input channels, no multiple of {m}: leave it out, or set tail='dense'")
    by_channel = values.reshape(outputs, channels, taps)
    groups = (by_channel[:, :whole].swapaxes(1, 2) if taps > 1 or whole < channels else values).reshape(-1, m)
    kept = keep_largest_of_few(groups, n) if m <= FEW else keep_largest(groups, n)
    if taps == 1 and whole == channels:
        return kept.reshape(outputs, width)
    mask = np.ones(by_channel.shape, dtype=bool)
    mask[:, :whole] = kept.reshape(outputs, taps, whole).swapaxes(1, 2)
    return mask.reshape(outputs, width)
