"""How many weights of every matrix stay: by an allocator, or in the proportions that another plan or a table has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from prunus.allocate.apportion import apportion
from prunus.allocate.request import Request
from prunus.core import registry
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Plan

Allocate = str | Plan | Mapping[str, float]
Values = Callable[[str], np.ndarray]


def matrix_counts(
    shapes: Mapping[str, Sequence[int]],
    total: int,
    allocate: Allocate,
    *,
    values: Values | None = None,
    floors: int | Mapping[str, int] = 1,
    options: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Weights of each matrix that stay, adding up to the total.

    Args:
        shapes: of the stored weights, by name.
        total: weights that stay.
        allocate: an allocator (uniform, erk, global, ...); or a density for each matrix, as a table or as a plan over weights that
            has them. Densities are scaled together where they do not meet the total, and none exceeds 1.
        values: scores of a matrix, large stays, for allocators that compare scores.
        floors: least weights of each matrix; smaller ones stay whole.
        options: the allocator's own.

    Returns:
        name -> count.

    Raises:
        BadInput: an allocator that reads something else. UnknownName: a density of a matrix that is not there, or none of one that is.
        BudgetUnreachable: the floors need more than the total.
    """
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    least = floors if isinstance(floors, int) else [floors.get(name, 0) for name in sizes]
    given: dict[str, Any] = {"floors": least, "shapes": list(shapes.values())}
    if isinstance(allocate, str):
        method = registry.find(allocate, kind="allocator")
        method.check_options(dict(options or {}))
        if unknown := set(method.needs) - {"scores", "shapes"}:
            raise BadInput(
                f"{method.id} needs {', '.join(sorted(unknown))}, which weights do not have: use uniform or erk"
            )
        if "scores" in method.needs:
            if values is None:
                raise BadInput(f"{method.id} compares scores, and this method has none: use uniform or erk")
            given["scores"] = [values(name) for name in sizes]
        counts = method.load()(Request.of(sizes, total, **given), **(options or {}))
    else:
        shares = densities_of(allocate, sizes)
        weights = np.array([shares[name] * size for name, size in sizes.items()])
        counts = apportion(Request.of(sizes, total, **given), weights)
    return dict(zip(sizes, counts.tolist()))


def densities_of(given: Plan | Mapping[str, float], names: Mapping[str, Any]) -> dict[str, float]:
    """Density of each of these matrices: of a plan over weights what it keeps of each, else as given.

    Raises:
        BadInput: a plan over something else, or a density outside 0..1.
        UnknownName: a name that one side lacks.
    """
    if isinstance(given, Plan):
        if given.unit != "weights":
            raise BadInput(f"densities are taken from a plan over weights, not over {given.unit}")
        given = {name: kept.count / max(kept.size, 1) for name, kept in given.groups.items()}
    for name in given:
        if name not in names:
            raise UnknownName("weight matrix", name, names)
    for name in names:
        if name not in given:
            raise UnknownName("density of a matrix", name, given)
        if not 0 <= given[name] <= 1:
            raise BadInput(f"the density of {name} must lie between 0 and 1, not {given[name]}")
    return {name: float(given[name]) for name in names}
