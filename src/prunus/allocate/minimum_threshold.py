"""Minimum threshold: one global cut that leaves every layer a few weights (Gupta et al. 2022, Global MP with MT).

Removes: nothing itself; splits a budget over layers by their scores.
Needs: scores that can be compared across layers.
Cost: counting passes over the scores (radix), no pooled copy; official adds one partition for each layer.
Departures: every layer keeps its best `minimum` first, and the rest of the budget goes to the largest scores of all
 layers. That keeps exactly what was asked, equals the plain global cut when no layer is starved, and needs no
 iteration. The released rule (parity="official") rescales per-layer sparsities in a loop that can cycle one ulp below
 its target: it stops within 1e-12 here, and after 1000 rounds. It keeps the k-th smallest weight itself, so each cut
 drops k - 1. The uninitialised element that the released script pools with the weights is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import allocator
from prunus.maths.partial import pooled_counts

if TYPE_CHECKING:
    from prunus.allocate.request import Request

SLACK = 1e-12
ROUNDS = 1000


@allocator(unit="weights", needs=("scores",), card="global-mp")
def minimum_threshold(
    request: Request, *, minimum: float = 0.05, parity: Literal["paper", "official"] = "paper", sparsity: float = 0.0
) -> np.ndarray:
    """Weights kept in each layer by one global cut, every layer keeping a few.

    Args:
        request: layers, their scores and the total.
        minimum: least number of weights of a layer, in percent of all weights; smaller layers stay whole. 0 is the
            plain global cut.
        parity: official is the released iteration, which misses the total by a few weights.
        sparsity: official only: the exact target; 0 = 1 - total / size.

    Returns:
        int64 `[g]`.

    Raises:
        BudgetUnreachable: the minimum of all layers is more than the total.
    """
    if request.scores is None:
        raise BadInput("minimum_threshold compares scores, and the request has none")
    scores = [
        np.asarray(s).reshape(-1) if request.sense != "easy" else -np.asarray(s).reshape(-1) for s in request.scores
    ]
    size = sum(s.size for s in scores)
    if parity == "official":
        target = sparsity or 1 - float(request.total) / size
        if minimum == 0:
            return np.array([int((s >= threshold(scores, target)).sum()) for s in scores], dtype=np.int64)
        shares = official_sparsities(scores, target, minimum)
        return np.array([int((s >= _kth_smallest(s, share)).sum()) for s, share in zip(scores, shares)], dtype=np.int64)
    floors = np.maximum(request.floors, layer_floors([s.size for s in scores], minimum))
    order = request.by_name  # equal scores at the cut must not depend on the order the layers come in
    counts = np.empty(order.size, dtype=np.int64)
    counts[order] = cut(lambda: (scores[int(at)] for at in order), round(float(request.total)), floors[order])
    return counts


def cut(chunks: Callable[[], Iterator[np.ndarray]], total: int, floors: np.ndarray) -> np.ndarray:
    """`pooled_counts` that refuses a total below the floors, with numbers."""
    least = int(floors.sum())
    if total < least:
        message = f"{total} weights for {floors.size} layers that must keep {least} (a minimum for each layer)"
        raise BudgetUnreachable(f"{message}; lower the minimum", nearest=f"{least} weights")
    return pooled_counts(chunks, total, floors)


def layer_floors(sizes: Sequence[int], minimum: float) -> np.ndarray:
    """int64 `[g]`: int(all weights * minimum / 100), at most the layer's size."""
    if not 0 <= minimum <= 100:
        raise BadInput(f"the minimum is a percentage of all weights, not {minimum}")
    return np.minimum(np.asarray(sizes, dtype=np.int64), minimum_count(sizes, minimum))


def minimum_count(sizes: Sequence[int], minimum: float) -> int:
    """The least number of weights of a layer, before it is clipped to the layer's size."""
    return int(int(np.sum(sizes)) * minimum / 100)


def threshold(scores: Sequence[np.ndarray], sparsity: float) -> float:
    """Released rule: the max(1, int(sparsity * n))-th smallest of all scores; what is below goes, itself stays."""
    pooled = np.concatenate([np.asarray(s).reshape(-1) for s in scores])
    return float(_kth_smallest(pooled, sparsity))


def vanilla_sparsities(scores: Sequence[np.ndarray], sparsity: float) -> np.ndarray:
    """float64 `[g]`: the share of each layer below the one global threshold."""
    limit = threshold(scores, sparsity)
    return np.array([1 - int((np.asarray(s) >= limit).sum()) / np.asarray(s).size for s in scores])


def official_sparsities(scores: Sequence[np.ndarray], sparsity: float, minimum: float) -> np.ndarray:
    """float64 `[g]`: per-layer sparsities of the released iteration, each layer keeping `minimum` percent of all
    weights.

    Raises:
        BudgetUnreachable: the iteration does not reach the target.
    """
    sizes = np.array([np.asarray(s).size for s in scores], dtype=np.float64)
    least = minimum_count([int(n) for n in sizes], minimum)
    shares = vanilla_sparsities(scores, sparsity)
    shares[sizes < least] = 0.0
    for _ in range(ROUNDS):
        reached = float(shares @ sizes) / sizes.sum()
        if reached == 0:
            break
        shares = shares * (sparsity / reached)
        starved = ((1 - shares) * sizes < least) & (sizes > least)
        shares[starved] = 1 - least / sizes[starved]
        if float(shares @ sizes) / sizes.sum() >= sparsity - SLACK:
            return shares
    raise BudgetUnreachable(
        f"no per-layer sparsities reach {sparsity:g} while every layer keeps {least} weights; lower the minimum"
    )


def _kth_smallest(values: np.ndarray, sparsity: float) -> np.floating:
    place = min(max(1, int(sparsity * values.size)), values.size) - 1
    return np.partition(values, place)[place]
