"""`px.density_table`: what each way would keep of every weight matrix, side by side, before anything is cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from prunus.allocate.matrices import Allocate, densities_of, matrix_counts
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.graph.record import named_tensors
from prunus.prunables.model import ModelPrunable

Way = Plan | Allocate
WHOLE = "all"


def density_table(
    model: nn.Module | ModelPrunable,
    ways: Mapping[str, Way],
    budget: str | Budget | None = None,
    *,
    example: Any = None,
) -> list[dict[str, Any]]:
    """Densities of every matrix.

    Args:
        model: whose weights they are; left as it is.
        ways: name of a column -> a plan over weights, an allocator that reads shapes only (erk, uniform), or densities by name.
        budget: what the allocators split: `10% weights`.
        example: what the model is called with: adds multiply-accumulates.

    Returns:
        One dict for each matrix, and one called `all`: group, shape, size, macs (with an example), and for each way its density.
        `empty` lists the ways that keep nothing of the matrix: layer collapse. In the last one the macs column is the model's,
        `macs: NAME` the share of them that zeros do not multiply, and `empty` the ways that collapse anywhere.

    Raises:
        BadInput: an allocator without a budget.
    """
    prunable = model if isinstance(model, ModelPrunable) else ModelPrunable(model, example)
    tensors = named_tensors(prunable.model)
    shapes = {group.name: tuple(tensors[group.name].shape) for group in prunable.groups("weights")}
    sizes = {name: tensors[name].numel() for name in shapes}
    found = {name: _densities(way, shapes, sizes, budget) for name, way in ways.items()}
    macs = _macs(prunable) if prunable.example is not None else None
    rows: list[dict[str, Any]] = []
    for name, shape in shapes.items():
        row: dict[str, Any] = {"group": name, "shape": list(shape), "size": sizes[name]}
        row |= {} if macs is None else {"macs": macs.get(name.rpartition(".")[0], 0)}
        row |= {way: densities[name] for way, densities in found.items()}
        rows.append({**row, "empty": [way for way, densities in found.items() if densities[name] == 0]})
    return [*rows, _total(rows, list(found), macs)]


def _densities(
    way: Way, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int], budget: str | Budget | None
) -> dict[str, float]:
    if not isinstance(way, str):
        return densities_of(way, sizes)
    if budget is None:
        raise BadInput(f"the allocator {way} splits a budget: give one, as '10% weights'")
    parsed = Budget.parse(budget)
    size = sum(sizes.values())
    counts = matrix_counts(shapes, size - parsed.drop_count(size), way, floors=parsed.floor)
    return {name: count / sizes[name] for name, count in counts.items()}


def _macs(prunable: ModelPrunable) -> dict[str, int]:
    """Module -> multiply-accumulates of one pass of the example."""
    return {row.module: row.macs for row in prunable.counter.table()}


def _total(rows: list[dict[str, Any]], ways: list[str], macs: Mapping[str, int] | None) -> dict[str, Any]:
    size = sum(row["size"] for row in rows)
    last: dict[str, Any] = {"group": WHOLE, "shape": [], "size": size}
    last |= {} if macs is None else {"macs": sum(macs.values())}
    last |= {way: sum(row[way] * row["size"] for row in rows) / size for way in ways}
    if macs is not None:
        other = sum(macs.values()) - sum(row["macs"] for row in rows)  # attention and the like: no weight is zero there
        for way in ways:
            kept = other + sum(row[way] * row["macs"] for row in rows)
            last[f"macs: {way}"] = kept / max(sum(macs.values()), 1)
    return {**last, "empty": sorted({way for row in rows for way in row["empty"]})}
