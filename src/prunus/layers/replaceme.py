"""ReplaceMe: a run of blocks becomes one linear map, folded into the last matrix before it (Shopkhoev et al. 2025).

Removes: layers: a run of consecutive blocks, the one that turns the stream least (Gromov et al. 2024).
Needs: hidden states over calibration texts, padding left out; no labels.
Cost: two forward passes, and one d x d system; the model keeps its form, so nothing is added to it.
Departures: from the published description. The map is fitted as I + D with a ridge on D, so without data it is plain removal;
 D is the least-squares map from what the last matrix gives to what the run adds. Angles are means over all tokens. The block with the
 map always stays, so the first block does. fold=False removes the same run and fits nothing: the control of the map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.budget import Budget
from prunus.core.edits import Bypass, Edit, SetWeight
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.graph.members import writing_axis
from prunus.graph.stream import last_writer
from prunus.maths.obs import damped

Measure = Callable[..., Any]


@search(unit="layers", of="stream")
def replaceme(
    prunable: Any, budget: Budget, *, measure: Measure, fold: bool = True, damp: float = 0.01, first: str = ""
) -> Plan:
    """Which run goes, and the matrix that stands in for it.

    Args:
        prunable: the model with its chain of blocks.
        budget: `24 layers`, `80% layers`, `drop 6 layers`; its pin names blocks as `model.layers.3`.
        measure: signals of one pass over the calibration rows.
        fold: fit the map; otherwise the run only goes.
        damp: ridge, relative to the mean square of what the last matrix gives.
        first: name of the first block that goes, instead of the run with the smallest angle.

    Raises:
        BadInput: several chains, or a block whose last matrix is not added to the stream as it is.
        BudgetUnreachable: no run is that long.
    """
    if len(prunable.chains) != 1:
        raise BadInput(
            f"one map stands in for a run of one chain of blocks; this model has {len(prunable.chains)} chains"
        )
    (chain,) = prunable.chains
    blocks, total = chain.children, len(chain.children)
    count = total - budget.count(total)
    planned, dense = {"layers": float(total - count)}, {"layers": float(total)}
    if count == 0:
        return Plan("layers", {chain.path: Kept.of_ids(np.arange(total), total)}, budget, planned, dense)
    starts = _starts(chain, budget, count, first)
    runs = {block: last_writer(prunable.graph, block) for block in blocks}
    angles = measure({"run_angle"}, lag=count, runs=runs)
    before = min(starts, key=lambda at: float(angles[blocks[at - 1]].run_angle)) - 1
    gone = range(before + 1, before + 1 + count)
    edits: list[Edit] = []
    if fold:
        sums = measure({"run_gram", "run_cross"}, lag=count, runs=runs, layers=(blocks[before],))[blocks[before]]
        edits += folded(prunable, runs[blocks[before]], fitted(sums.run_gram, sums.run_cross, damp))
    edits += [Bypass(blocks[at]) for at in gone]
    kept = Kept.of_ids(np.setdiff1d(np.arange(total), gone), total)
    made = {"angle": float(angles[blocks[before]].run_angle), "map_in": runs[blocks[before]] if fold else ""}
    return Plan("layers", {chain.path: kept}, budget, planned, dense, tuple(edits), provenance=made)


def _starts(chain: Any, budget: Budget, count: int, first: str) -> list[int]:
    """Positions at which a run of `count` blocks may begin."""
    stuck = {at for at, name in enumerate(chain.children) if not chain.removable[at] or name in budget.pin}
    found = [at for at in range(1, len(chain.children) - count + 1) if not stuck & set(range(at, at + count))]
    if first:
        if first not in chain.children:
            raise BadInput(f"there is no block {first!r}; blocks are called like {chain.children[0]!r}")
        found = [at for at in found if chain.children[at] == first]
    if not found:
        raise BudgetUnreachable(
            f"{budget}: no run of {count} blocks may go, the first block stays", nearest=_most(chain, stuck)
        )
    return found


def _most(chain: Any, stuck: set[int]) -> str:
    """The budget that keeps all but the longest run that may go."""
    longest = current = 0
    for at in range(1, len(chain.children)):
        current = 0 if at in stuck else current + 1
        longest = max(longest, current)
    return f"{len(chain.children) - longest} layers"


def fitted(gram: Tensor, cross: Tensor, damp: float) -> Tensor:
    """T = I + D `[d, d]`, float64, with D of least |M D - R|^2 + ridge |D|^2.

    Args:
        gram: M^T M over tokens.
        cross: M^T R, R what the run adds.
        damp: ridge, relative to the mean diagonal of `gram`.
    """
    return torch.eye(len(gram), dtype=torch.float64) + torch.linalg.solve(damped(gram, damp), cross.double())


def folded(prunable: Any, module: str, turn: Tensor) -> list[Edit]:
    """New weight and bias of a matrix whose outputs y become y T."""
    name = f"{module}.weight"
    axis = writing_axis(prunable.graph, name)
    if axis is None:
        raise BadInput(f"{name} has no axis along which it writes")
    edits: list[Edit] = []
    for parameter, along in ((name, axis), (f"{module}.bias", 0)):
        if parameter not in prunable.graph.parameters:
            continue
        value = prunable.model.get_parameter(parameter).detach()
        new = (value.double().cpu().movedim(along, -1) @ turn).movedim(-1, along)
        kind = torch.promote_types(value.dtype, torch.float32)
        edits.append(SetWeight(parameter, new.to(kind).contiguous().numpy()))
    return edits
