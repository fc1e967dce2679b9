"""Uniform: keep the same share of every group; the simplest control, and the rule of balanced selection.

Removes: nothing itself; splits a budget over groups.
Needs: group sizes; floors, caps and costs where given.
Cost: O(g log g).
Departures: none. Rounding is by largest remainder, so the total is met exactly where published code rounds every
  group alone and misses it. More groups than budget: the largest groups get one unit each, ties to the smaller name.
"""

from __future__ import annotations

import numpy as np

from prunus.allocate.apportion import apportion
from prunus.allocate.request import Counts, Request
from prunus.core.registry import allocator


@allocator()
def uniform(request: Request) -> Counts:
    """Counts that keep the same share of every group.

    Args:
        request: the groups and the total.

    Returns:
        int64 `[g]`.
    """
    return apportion(request, request.sizes.astype(np.float64))
