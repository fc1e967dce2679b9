"""Request: what every allocator is given. Checked once, here, so that allocators can be short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.rng import Rng

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
_SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Request:
    """A budget to split over groups. Built by `Request.of`, which checks and completes it.

    Attributes:
        names: of the groups, unique; ties between groups go to the smaller name.
        sizes: int64 `[g]`, units in each group.
        total: what may stay: units when every cost is 1, else the same quantity as `costs` (macs, params).
        floors: int64 `[g]`, least units kept; never above the size.
        caps: int64 `[g]`, most units kept; never above the size.
        costs: float64 `[g]`, price of one unit of the group.
        scores: for each group the scores of its units `[size]`, or None.
        sense: how the scores read: keep and hard (large stays first), easy (small stays first).
        shapes: for each group the shape of its weight, or None (ER and ERK densities need it).
        ids: for each group the ids of its units, or None.
        recalls: float64 `[g]`, for groups that are classes the share of validation rows classified rightly, or None.
        rng: for allocators that draw.
        notes: what allocators state about their answer (which solver was used), for the plan's provenance.
    """

    names: tuple[str, ...]
    sizes: Counts
    total: float
    floors: Counts
    caps: Counts
    costs: Floats
    scores: tuple[NDArray[np.floating], ...] | None = None
    sense: Literal["keep", "hard", "easy"] = "keep"
    shapes: tuple[tuple[int, ...], ...] | None = None
    ids: tuple[NDArray[np.generic], ...] | None = None
    recalls: Floats | None = None
    rng: Rng | None = None
    notes: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(
        cls,
        sizes: Mapping[str, int] | Sequence[int] | NDArray[np.integer],
        total: float,
        *,
        names: Sequence[str] | None = None,
        floors: int | ArrayLike = 0,
        caps: int | ArrayLike | None = None,
        costs: float | ArrayLike = 1.0,
        scores: Sequence[NDArray[np.floating]] | None = None,
        sense: Literal["keep", "hard", "easy"] = "keep",
        shapes: Sequence[Sequence[int]] | None = None,
        ids: Sequence[NDArray[np.generic]] | None = None,
        recalls: ArrayLike | None = None,
        rng: Rng | None = None,
    ) -> Request:
        """Check and complete a request.

        Args:
            sizes: units in each group; a mapping name -> size, or a sequence (names are then zero-padded positions).
            total: what may stay, in units or in the unit of `costs`.
            names: of the groups, when `sizes` is a sequence.
            floors: least units kept, for all groups or for each; clipped to the size (a floor of 8 keeps all of 4).
            caps: most units kept; clipped to the size; None means the size.
            costs: price of one unit, for all groups or for each.
            scores: for each group, the scores of its units.
            sense: how the scores read.
            shapes: for each group, the shape of its weight.
            ids: for each group, the ids of its units.
            recalls: for each group, the share of validation rows classified rightly.
            rng: for allocators that draw.

        Raises:
            BadInput: shapes, signs, names or values that can't be.
            NonFinite: a score, cost or the total is NaN or infinite.
            BudgetUnreachable: the total is below what the floors need or above what the caps allow.
        """
        if isinstance(sizes, Mapping):
            names, sizes = tuple(sizes), list(sizes.values())
        size = _counts("sizes", sizes, len(sizes))
        named = tuple(names) if names is not None else default_names(size.size)
        _check_names(named, size.size)
        floor = np.minimum(_counts("floors", floors, size.size), size)
        cap = size.copy() if caps is None else np.minimum(_counts("caps", caps, size.size), size)
        request = cls(
            named, size, float(total), floor, cap, _costs(costs, size.size), _scores(scores, named, size), sense,
            _shapes(shapes, named), None if ids is None else tuple(ids),
            None if recalls is None else np.asarray(recalls, dtype=np.float64), rng,
        )  # fmt: skip
        return _reachable(request)

    @property
    def unit_costs(self) -> bool:
        """Whether every unit costs 1, so that counts must add up to the total exactly."""
        return bool((self.costs == 1.0).all())

    @property
    def by_name(self) -> NDArray[np.int64]:
        """Positions of the groups in the order of their names: the canonical order every allocator works in."""
        return np.array(sorted(range(len(self.names)), key=self.names.__getitem__), dtype=np.int64)

    @property
    def whole_total(self) -> int:
        """The total as a number of units; an error when units have prices."""
        if not self.unit_costs:
            raise BadInput(
                "this allocator counts units: it takes costs of 1 only; use uniform, proportional, global or knapsack"
            )
        return round(self.total)

    def first_to_keep(self, group: int) -> NDArray[np.float64]:
        """The scores of one group turned so that large stays first, float64 `[size]`."""
        if self.scores is None:
            raise BadInput(
                "this allocator compares scores, and the request has none: pass scores=, or use uniform or strata"
            )
        values = self.scores[group].astype(np.float64)
        return -values if self.sense == "easy" else values


def default_names(count: int) -> tuple[str, ...]:
    """Zero-padded positions, whose lexicographic order is the order of the positions."""
    width = len(str(max(count - 1, 0)))
    return tuple(f"{position:0{width}d}" for position in range(count))


def _counts(what: str, value: ArrayLike | Sequence[int], groups: int) -> Counts:
    array = np.asarray(value)
    if array.ndim > 1 or (array.ndim == 1 and array.shape != (groups,)):
        raise BadInput(
            f"{what} must be one number or one for each of {groups} groups, not an array of shape {array.shape}"
        )
    if array.dtype.kind not in "iu" and not (array.size == 0 or np.equal(np.mod(array, 1), 0).all()):
        raise BadInput(f"{what} must be whole numbers, not {array.tolist()}")
    if array.size and array.min() < 0:
        raise BadInput(f"{what} can't be negative: {int(array.min())}")
    return np.broadcast_to(array.astype(np.int64), (groups,)).copy()


def _costs(costs: float | ArrayLike, groups: int) -> Floats:
    array = np.broadcast_to(np.asarray(costs, dtype=np.float64), (groups,)).copy()
    if not np.isfinite(array).all():
        raise NonFinite(f"costs must be finite: {array.tolist()}")
    if groups and array.min() <= 0:
        raise BadInput(f"the cost of a unit must be above 0, not {array.min():g}; leave free units out of the request")
    return array


def _check_names(names: tuple[str, ...], groups: int) -> None:
    if len(names) != groups:
        raise BadInput(f"{len(names)} names for {groups} groups")
    if len(set(names)) != groups:
        twice = sorted({name for name in names if names.count(name) > 1})
        raise BadInput(f"names of groups must be unique: {twice[:5]} appear more than once")


def _scores(
    scores: Sequence[NDArray[np.floating]] | None, names: tuple[str, ...], sizes: Counts
) -> tuple[NDArray[np.floating], ...] | None:
    if scores is None:
        return None
    if len(scores) != len(names):
        raise BadInput(f"scores of {len(scores)} groups for {len(names)} groups")
    arrays = tuple(np.asarray(values).reshape(-1) for values in scores)
    for name, values, size in zip(names, arrays, sizes.tolist()):
        if values.size != size:
            raise BadInput(f"group {name!r} has {size} units and {values.size} scores")
        if not np.isfinite(values).all():
            raise NonFinite(f"{int((~np.isfinite(values)).sum())} scores of group {name!r} are NaN or infinite")
    return arrays


def _shapes(shapes: Sequence[Sequence[int]] | None, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...] | None:
    if shapes is None:
        return None
    if len(shapes) != len(names):
        raise BadInput(f"{len(shapes)} shapes for {len(names)} groups")
    return tuple(tuple(int(side) for side in shape) for shape in shapes)


def _reachable(request: Request) -> Request:
    """Refuse a total outside what floors and caps allow, naming the nearest one inside."""
    if not np.isfinite(request.total):
        raise NonFinite(f"the total must be finite, not {request.total}")
    if (request.floors > request.caps).any():
        group = int(np.flatnonzero(request.floors > request.caps)[0])
        raise BadInput(
            f"group {request.names[group]!r}: floor {request.floors[group]} is above cap {request.caps[group]}"
        )
    if request.unit_costs and request.total != round(request.total):
        raise BadInput(f"a total of {request.total} is not a whole number of units")
    least, most = float(request.floors @ request.costs), float(request.caps @ request.costs)
    if request.total < least * (1 - _SLACK):
        raise BudgetUnreachable(f"a total of {request.total:g} is below what the floors need", nearest=f"{least:g}")
    if request.total > most * (1 + _SLACK):
        raise BudgetUnreachable(f"a total of {request.total:g} is above what the caps allow", nearest=f"{most:g}")
    return request
