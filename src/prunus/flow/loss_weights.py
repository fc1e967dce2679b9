"""Loss weights of a plan over rows: how much each kept row counts in training, where its selector says so.

A selector that says so (`weighs=True` in its decorator) has a function `weights(score, kept, *, ...)` in its module:
how many rows each kept one stands for (craig), or how their gradients add up to that of all (grad_match).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from prunus.core.chain import Chain
from prunus.core.plan import Plan
from prunus.core.registry import Method
from prunus.core.score import GroupScore
from prunus.flow.calls import asks_for
from prunus.select.by_label import part
from prunus.select.chain import stage_options


def weighed(plan: Plan, method: Method, group: GroupScore, pool: np.ndarray, options: Mapping[str, Any]) -> Plan:
    """The plan with the weights of its selector (of a chain: of the last one), or as it is where that gives none.

    Args:
        plan: over rows, one group.
        method: the selector that made it.
        group: the score it was made from.
        pool: int64 positions of the rows that the kept ones stand for: all but banned ones.
        options: of the selector.

    Returns:
        Weights have mean 1 over the kept rows, so that the learning rate keeps its meaning.
    """
    last = method.stages[-1] if isinstance(method, Chain) else method
    if not last.facts.get("weighs"):
        return plan
    function = importlib.import_module(last.module).weights
    own = (
        stage_options([(one, one.load()) for one in method.stages], last, options)
        if isinstance(method, Chain)
        else options
    )
    piece, kept = part(group, pool), plan.keep()
    order = np.argsort(piece.ids, kind="stable")
    places = order[np.searchsorted(piece.ids, kept, sorter=order)]
    found = function(piece, places, **{name: value for name, value in own.items() if asks_for(function, name)})
    if not found.sum() > 0:
        warnings.warn(f"every weight of {last.id} is 0, so the kept rows count alike", UserWarning, stacklevel=2)
        return plan
    weights = (found * (found.size / found.sum())).astype(np.float32)
    return replace(plan, weights={next(iter(plan.groups)): weights})
