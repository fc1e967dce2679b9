"""STABLE-RPS: all weights read one small array at random places, trained from the start (Desai and Shrivastava 2023).

Removes: no weight; the numbers they are made of. The budget says how many stay: the cells of the array, beside matrices left alone.
Needs: nothing. It comes before training: the array starts anew (or as near to the present weights as it can, start="weights").
Cost: training gathers every weight from the array in each forward pass; MACs and activations are those of the dense model, and the gather
 holds 12 bytes for each weight beside it. Stored are the array and what is not shared.
Departures: places are drawn from keyed hashes, so files hold a seed and no indices. The array starts uniform in +-half_width, and scales
 refer to its real standard deviation, half_width / sqrt(3): the released code takes the half width itself, which makes weights start
 0.577 times too small (parity="official"). Signs are hashed; released: drawn by torch. Only matrices (linear, convolutions) with at least
 `smallest` elements are shared. The gradient rule v1 is the released default; which one the paper's theorem states was not verified.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from prunus.core.budget import Budget
from prunus.core.edits import Share
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.maths.sharing import Mapper, Rule


@search(unit="weights", card="stable-rps")
def stable_rps(
    prunable: Any,
    budget: Budget,
    *,
    rng: Any,
    mapper: Mapper = "fold",
    rule: Rule = "v1",
    start: Literal["new", "weights"] = "new",
    half_width: float = 0.04,
    smallest: int = 0,
    parity: Literal["paper", "official"] = "paper",
) -> Plan:
    """An array and who reads it where.

    Args:
        prunable: a model as its constructor makes it: the standard deviation of each matrix sets its scale.
        budget: numbers that stay of all weights: `10% weights`, `5000 weights`.
        rng: places, signs and the start of the array.
        mapper: fold, hashed or blocks.
        rule: what gradients of the array are divided by.
        start: of the array: new numbers, or the nearest to the present weights.
        half_width: of the uniform numbers the array starts with.
        smallest: matrices with fewer elements keep their own numbers.
        parity: official takes the half width for the standard deviation.

    Returns:
        A Plan that keeps every weight, and says in its edits what each is made of.

    Raises:
        BudgetUnreachable: the matrices that are left alone fill the budget.
    """
    if budget.nm:
        raise BadInput(f"stable_rps shares an array: give a share, as '10% weights', not {budget.short()}")
    groups = [group for group in prunable.groups("weights") if group.name.endswith("weight")]
    total = sum(group.size for group in groups)
    chosen = [group for group in groups if group.size >= smallest]
    alone = total - sum(group.size for group in chosen)
    size = budget.count(total) - alone
    if size < 1:
        raise BudgetUnreachable(f"{budget}: {alone} weights are not shared", nearest=f"{alone + 1} weights")
    deviation = half_width if parity == "official" else half_width / math.sqrt(3)
    seed = int(rng.uniform(np.arange(1))[0] * 2**31)
    edits: list[Share] = []
    offset = 0
    for group in chosen:
        spread = float(prunable.model.get_parameter(group.name).detach().double().std(correction=0))
        settings = np.array([spread / deviation, half_width], dtype=np.float64)
        edits.append(Share(group.name, size, offset, seed, mapper, rule, start, settings))
        offset += group.size
    kept = {group.name: Kept.of_mask(np.ones(group.size, dtype=bool)) for group in groups}
    planned = {"weights": float(size + alone)}
    return Plan("weights", kept, budget, planned, {"weights": float(total)}, tuple(edits), {}, (), {}, "")
