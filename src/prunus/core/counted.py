"""How much a plan over single units keeps, before and after: what its groups and the paths beside them add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prunus.core.edits import Edit, LowRank
from prunus.core.plan import Kept

Quantities = dict[str, float]


def counted(unit: str, groups: Mapping[str, Kept], edits: Iterable[Edit] = ()) -> tuple[Quantities, Quantities]:
    """(planned, dense) of a plan: units that stay and all of them, and the weights of low-rank paths where there are any."""
    planned = {unit: float(sum(one.count for one in groups.values()))}
    dense = {unit: float(sum(one.size for one in groups.values()))}
    beside = sum(edit.a.size + edit.b.size for edit in edits if isinstance(edit, LowRank))
    return (planned | {"low_rank": float(beside)}, dense | {"low_rank": 0.0}) if beside else (planned, dense)
