"""PreCropping: widths of layers from the densities that pruning at initialisation would give them (Chai et al. 2022).

Removes: channels, before training: only the architecture matters, and the first channels of each group stay.
Needs: an architecture and what it is called with; densities of its own (waterfill, uniform, erk, synflow) need no data,
 those of any other method may be given.
Cost: waterfill, uniform, erk: none; synflow: rounds * one forward and backward pass. Then about 40 counts of the model.
Departures: no code was released. A group takes the mean of what its writers ask for, weighted by their weights
 (reduce); which of mean, max and min the authors use is not verified, nor which rule for plain stacks: both are here.
 Matrices with one side that nothing can cut (the first layer, a head) take density instead of its root. All roots are
 then scaled by one factor, so that the real count of the cut network meets the budget. The proxy's terms for shortcuts
 are left out: a block's contribution lies far above 1 there, where their logarithm is the plain one (waterfill). Train
 a network of the new widths from a new initialisation (train.initialise): slices of the old one have the wrong scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from prunus.allocate.erk import densities as erk_densities
from prunus.channels.widths import by_root, check_densities, from_weights, water_filling
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, BudgetUnreachable, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.graph.trace import run
from prunus.signals.synflow import Flow, flow_masks

Source = Literal["waterfill", "uniform", "erk", "synflow"]
STEPS = 40  # bisections of the common factor
LEAST = 1e-6  # smallest factor and share


@dataclass(frozen=True, eq=False)
class Matrix:
    """A weight matrix that writes a group.

    Attributes:
        shape: of the parameter.
        size: its weights.
        group: what it writes.
        reads: (group, positions of the input axis that each unit owns) for every group it reads.
        inputs: length of the input axis.
    """

    shape: tuple[int, ...]
    size: int
    group: str
    reads: tuple[tuple[str, int], ...]
    inputs: int


@search(unit="channels", card="precropping")
def precropping(
    prunable: Any,
    budget: Budget,
    *,
    source: Source = "waterfill",
    densities: Mapping[str, float] | None = None,
    rule: Literal["sqrt", "sequential"] = "sqrt",
    io_rule: Literal["linear", "sqrt"] = "linear",
    reduce: Literal["mean", "max", "min"] = "mean",
    min_width: int = 1,
    rounds: int = 100,
) -> Plan:
    """Widths for a budget of parameters, MACs or channels.

    Args:
        prunable: the model with its graph.
        budget: what may stay.
        source: where densities come from.
        densities: density of each weight matrix by parameter name, instead of `source`; others count as dense.
        rule: sqrt shrinks both sides of a matrix alike; sequential walks forward and gives each matrix its weights.
        io_rule: linear takes the density, not its root, where the other side of a matrix can't be cut.
        reduce: what a group takes of the widths that its writers ask for.
        min_width: least width of a group.
        rounds: of the synaptic flow, with densities that fall exponentially.

    Returns:
        A Plan that keeps the first channels of each group.

    Raises:
        BudgetUnreachable: even the least widths cost more.
    """
    matrices = writers_of(prunable)
    share = _share(prunable, budget)
    given = densities if densities is not None else _densities(prunable, matrices, source, share, rounds)
    if unknown := sorted(set(given) - set(matrices)):
        raise UnknownName("weight matrix that writes a group", unknown[0], matrices)
    own = check_densities([given.get(name, 1.0) for name in matrices])
    known = dict(zip(matrices, own.tolist()))
    chosen = by_rule(
        prunable, matrices, known, rule=rule, io_rule=io_rule, reduce=reduce, least=max(min_width, budget.floor)
    )
    counts = _fitted(prunable, budget, chosen)
    kept = {name: Kept.of_ids(np.arange(count), _sizes(prunable)[name]) for name, count in counts.items()}
    made = {"method": "channels/precropping", "densities": {name: round(value, 9) for name, value in known.items()}}
    return Plan("channels", kept, budget, prunable.count(counts), prunable.count(_sizes(prunable)), (), {}, (), made)


def writers_of(prunable: Any) -> dict[str, Matrix]:
    """Parameter name -> Matrix, in the order of the forward pass, for every matrix that writes a group."""
    reads: dict[str, list[tuple[str, int]]] = {}
    writes: dict[str, str] = {}
    for group in prunable.groups("channels"):
        for slot in group.slots:
            if slot.role == "reader":
                reads.setdefault(slot.parameter, []).append((group.name, slot.index.shape[1]))
            elif slot.role == "writer":
                writes.setdefault(slot.parameter, group.name)
    shapes = prunable.graph.shapes
    found: dict[str, Matrix] = {}
    for name in (n for n in prunable.graph.main.trace.tensors if n in writes and len(shapes[n]) > 1):
        shape = shapes[name]
        found[name] = Matrix(shape, prod(shape), writes[name], tuple(reads.get(name, ())), shape[1])
    if not found:
        raise BadInput("no matrix writes a group that can be cut: there are no widths to choose")
    return found


def _densities(
    prunable: Any, matrices: Mapping[str, Matrix], source: str, share: float, rounds: int
) -> dict[str, float]:
    sizes = [matrix.size for matrix in matrices.values()]
    if source == "waterfill":
        return dict(zip(matrices, water_filling(sizes, share * sum(sizes)).tolist()))
    if source == "uniform":
        return dict.fromkeys(matrices, share)
    if source == "erk":
        return dict(zip(matrices, erk_densities([m.shape for m in matrices.values()], share).tolist()))
    if source != "synflow":
        raise UnknownName("source of densities", source, ("waterfill", "uniform", "erk", "synflow"))
    return synflow_densities(Flow(prunable.model, prunable.example, run), list(matrices), share, rounds)


def synflow_densities(flow: Flow, names: list[str], share: float, rounds: int) -> dict[str, float]:
    """Share of each matrix that survives `rounds` of global pruning by synaptic flow to `share`, exponentially."""
    masks = flow_masks(flow, names, share, rounds=rounds)
    return {name: max(float(mask.double().mean()), 1 / mask.numel()) for name, mask in masks.items()}


Widths = Callable[[float], dict[str, int]]


def by_rule(
    prunable: Any, matrices: Mapping[str, Matrix], densities: Mapping[str, float], *, rule: str, io_rule: str,
    reduce: str, least: int,
) -> Widths:  # fmt: skip
    """`widths(factor)`: kept count of each group, when every root of a density is multiplied by `factor`."""
    if rule not in ("sqrt", "sequential"):
        raise UnknownName("rule", rule, ("sqrt", "sequential"))
    sizes = _sizes(prunable)

    def widths(factor: float) -> dict[str, int]:
        asked: dict[str, list[tuple[int, int]]] = {}
        now = dict(sizes)
        for name, matrix in matrices.items():
            size = sizes[matrix.group]
            share = min(densities[name] * factor**2, max(densities[name], 1.0))
            if rule == "sequential":
                weights = share * matrix.size * size / matrix.shape[0]
                width = from_weights(
                    weights, _inputs(matrix, now, sizes) * matrix.size / prod(matrix.shape[:2]), size, least
                )
            else:
                share = share**2 if not matrix.reads and io_rule == "linear" else share
                width = int(by_root([size], [share], min(least, size))[0])
            asked.setdefault(matrix.group, []).append((width, matrix.size))
            now[matrix.group] = _together(asked[matrix.group], reduce)
        return {name: now[name] if name in asked else size for name, size in sizes.items()}

    return widths


def _inputs(matrix: Matrix, now: Mapping[str, int], sizes: Mapping[str, int]) -> int:
    """Length of the input axis at the widths so far."""
    return max(matrix.inputs - sum(width * (sizes[name] - now[name]) for name, width in matrix.reads), 1)


def _together(asked: list[tuple[int, int]], reduce: str) -> int:
    """One width for a group of (width, weights of the matrix that asks for it)."""
    widths = np.array([width for width, _ in asked])
    if reduce == "mean":
        return int(np.average(widths, weights=[weight for _, weight in asked]))
    if reduce not in ("max", "min"):
        raise UnknownName("way to reduce", reduce, ("mean", "max", "min"))
    return int(widths.max() if reduce == "max" else widths.min())


def _fitted(prunable: Any, budget: Budget, widths: Widths) -> dict[str, int]:
    """The widths of the largest common factor that meets the budget, and single steps of the next that still fit."""
    dense = prunable.count(_sizes(prunable))
    limits = budget.limits(dense)

    def rounded(factor: float) -> dict[str, int]:
        step, sizes = budget.round_to or 1, _sizes(prunable)
        return {name: min(-(-count // step) * step, sizes[name]) for name, count in widths(factor).items()}

    def affordable(counts: dict[str, int]) -> bool:
        return limits.met(prunable.count(counts))

    def meets(factor: float) -> bool:
        return affordable(rounded(factor))

    low, high = 0.0, 1.0
    if not meets(LEAST):
        nearest = limits.shown(prunable.count(rounded(LEAST)))
        raise BudgetUnreachable(f"{budget} can't be met by widths", nearest=nearest)
    while meets(high) and high < 1e6:
        low, high = high, 2 * high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if meets(middle) else (low, middle)
    counts, wider = rounded(max(low, LEAST)), rounded(high)
    for name in sorted(counts):  # many groups may step at the same factor: some of these steps still fit
        more = counts | {name: max(counts[name], wider[name])}
        counts = more if affordable(more) else counts
    return counts


def _share(prunable: Any, budget: Budget) -> float:
    """The budget as a share of the dense model, the smallest of several; a share of 0 is refused later, with numbers."""
    dense = prunable.cost()
    share = min(min(term.limit(dense[term.quantity]) / dense[term.quantity], 1.0) for term in budget.terms)
    return max(share, LEAST)


def _sizes(prunable: Any) -> dict[str, int]:
    return {group.name: group.size for group in prunable.groups("channels")}
