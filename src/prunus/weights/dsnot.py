"""DSnoT: swaps that move each output's expected error towards zero, without training (Zhang et al. 2024).

Removes: weights; those that stay keep their values.
Needs: mean, variance and norm of every input over calibration tokens.
Cost: one forward pass; for each output at most `cycles` swaps, each one look at its inputs.
Departures: no card; from the paper's rule (Dynamic Sparse No Training, ICLR 2024), its code was not read. The expected error of
 an output is the sum of w * mean(x) over what is gone. A swap revives the gone weight that lowers |error| most for its input's
 variance and drops the kept one with the smallest Wanda score among those that push the error the same way; it is made only if
 |error| falls (the paper also stops at a threshold, 0.1 there, here a share of the error at the start). A weight moves at most
 once, so swaps can't run in circles.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput, NonFinite
from prunus.core.registry import solver
from prunus.maths.partial import keep_largest
from prunus.weights.magnitude import full, magnitude
from prunus.weights.ria import ria
from prunus.weights.wanda import wanda

STARTS = {"ria": ria, "wanda": wanda, "magnitude": magnitude}


@solver(unit="weights", needs=("weight", "input_mean", "input_var", "input_norm"), within="group")
def dsnot(
    layer: Any,
    count: int | tuple[int, int],
    *,
    start: Literal["ria", "wanda", "magnitude"] = "ria",
    cycles: int = 50,
    stop: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask and weights of one layer; every output keeps its share.

    Args:
        layer: `.weight [outputs, inputs]`, `.input_mean`, `.input_var`, `.input_norm` with as many entries as inputs (or as weights),
            `.taps`.
        count: how many weights stay, or (n, m) for n of every m: then a swap stays inside its group of m.
        start: the criterion whose mask is improved.
        cycles: most swaps for an output.
        stop: an output is done when its expected error is below this share of what it was.

    Returns:
        bool `[outputs, inputs]` (True stays) and the weights, float32 (float64 for float64), zero where dropped.

    Raises:
        BadInput: statistics of another layer, or inputs that are no multiple of m.
    """
    weight = full(layer.weight)
    if not bool(torch.isfinite(weight).all()):
        raise NonFinite(f"{layer.name} holds NaN or infinity: check the weights of the model")
    fields = {name: _spread(layer, name, weight) for name in ("input_mean", "input_var", "input_norm")}
    taps = int(getattr(layer, "taps", 1))
    order = torch.arange(weight.shape[1])
    size = 0
    if isinstance(count, tuple):
        size = count[1]
        if not 0 < count[0] <= size or weight.shape[1] // taps % size:
            raise BadInput(
                f"{layer.name}: {count[0]} of {size} needs {weight.shape[1] // taps} inputs to be a multiple of {size}"
            )
        order = order.reshape(-1, taps).T.reshape(-1)
    scores = STARTS[start](layer).double()[:, order]
    kept = torch.from_numpy(_start(scores.numpy(), count))
    pushes = (weight.double() * fields["input_mean"])[:, order]
    gains = pushes / fields["input_var"].clamp_min(torch.finfo(torch.float64).tiny)[:, order]
    prices = (weight.double().abs() * fields["input_norm"])[:, order]
    kept = _swapped(kept, pushes, gains, prices, size, cycles, stop)[:, torch.argsort(order)]
    return kept.numpy(), torch.where(kept, weight, 0.0).numpy()


def _spread(layer: Any, name: str, weight: Tensor) -> Tensor:
    value = getattr(layer, name).double()
    if value.numel() not in (weight.shape[1], weight.numel()):
        raise BadInput(f"{layer.name} has {weight.shape[1]} inputs but {name} of {value.numel()}")
    return value.reshape(-1, weight.shape[1]).expand(weight.shape)


def _start(scores: np.ndarray, count: int | tuple[int, int]) -> np.ndarray:
    """The largest of each output (what is left over to the outputs whose next one is largest), or n of every m."""
    outputs, inputs = scores.shape
    if isinstance(count, tuple):
        return keep_largest(scores.reshape(-1, count[1]), count[0]).reshape(scores.shape)
    each, over = divmod(count, outputs)
    counts = np.full(outputs, each)
    if over:
        counts[keep_largest(np.sort(scores, 1)[:, inputs - each - 1][None], over)[0]] += 1
    return keep_largest(scores, counts)


def _swapped(
    kept: Tensor, pushes: Tensor, gains: Tensor, prices: Tensor, size: int, cycles: int, stop: float
) -> Tensor:
    """All outputs at once, one swap each in a cycle."""
    kept, moved = kept.clone(), torch.zeros_like(kept)
    error = torch.where(kept, 0.0, pushes).sum(1)
    enough = stop * error.abs()
    lines, groups = torch.arange(len(kept)), torch.arange(kept.shape[1]) // (size or kept.shape[1])
    for _ in range(cycles):
        sign = error.sign().unsqueeze(1)
        wins = torch.where(~kept & ~moved, sign * gains, -torch.inf)  # gone, and its push is part of the error
        back = wins.argmax(1)
        same = groups == groups[back].unsqueeze(1)
        allowed = kept & ~moved & same & (sign * pushes <= 0)  # dropping it takes from the error, too
        cost = torch.where(allowed, prices, torch.inf)
        out = cost.argmin(1)
        after = error - pushes[lines, back] + pushes[lines, out]
        do = (
            (wins[lines, back] > 0)
            & torch.isfinite(cost[lines, out])
            & (after.abs() < error.abs())
            & (error.abs() > enough)
        )
        if not bool(do.any()):
            break
        at = lines[do]
        kept[at, back[do]], kept[at, out[do]] = True, False
        moved[at, back[do]], moved[at, out[do]] = True, True
        error = torch.where(do, after, error)
    return kept
