"""SynFlow: iterative pruning by synaptic flow, without data and without layer collapse (Tanaka et al. 2020).

Removes: weights, before any training, with one cut over all layers in each round.
Needs: what the model is called with (only shapes matter); no data, no labels.
Cost: `rounds` forward and backward passes of one input of ones; two copies of the model.
Departures: exact counts, where the released cut drops all that ties with its threshold; what went never comes back before a weight of
 a dead path, which scores 0 as well. Only parameters and running variances are made absolute; running means count as 0 (the
 released loop takes absolute values of every buffer, which changes a trained network's output). Where the flow leaves float32 it is
 computed in float64; released code stays in float32. The control of every result is its own densities at random (px.compare).
"""

from __future__ import annotations

from typing import Any, Literal

from prunus.core.budget import Budget
from prunus.core.plan import Plan
from prunus.core.registry import search
from prunus.graph.trace import run
from prunus.signals.synflow import Flow, flow_masks
from prunus.weights.masked import masked_plan


@search(unit="weights", card="pai-baselines")
def synflow(
    prunable: Any,
    budget: Budget,
    *,
    rounds: int = 100,
    course: Literal["exponential", "linear"] = "exponential",
    minimum: float = 0.0,
) -> Plan:
    """Masks over every weight matrix.

    Args:
        prunable: the model with an example of its input.
        budget: share or number of weights that stay.
        rounds: of scoring and cutting; 1 is one shot, which collapses layers.
        course: how the share that stays falls to the budget: exponentially, or in equal steps.
        minimum: least weights of a matrix, in percent of all weights; at least the budget's floor.

    Returns:
        A Plan without edits: weights keep their values.
    """
    groups = prunable.groups("weights")
    size = sum(group.size for group in groups)
    floors = max(budget.floor, int(size * minimum / 100))
    names = [group.name for group in groups]
    flow = Flow(prunable.model, prunable.example, run)
    share = 1 - budget.drop_count(size) / size if not budget.term.relative else budget.term.amount
    masks = flow_masks(flow, names, share, rounds=rounds, course=course, floors=floors)
    return masked_plan(prunable, budget, masks)
