"""Three regimes of pruning: what to do with a training setting before pruning (Zhou et al. 2023).

Temperature is the noise of dense training: a larger learning rate, smaller batches or fewer epochs are hotter. Load is the
density that pruning leaves. Two retrained copies of one pruned network say where a setting stands: a barrier between them
(regime I) asks for more temperature, well connected but unlike outputs (II-A) for less, well connected and alike (II-B) is good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prunus.core.errors import BadInput

Regime = Literal["I", "II-A", "II-B"]
Move = Literal["raise", "lower", "keep"]
MOVES: dict[Regime, Move] = {"I": "raise", "II-A": "lower", "II-B": "keep"}
BARRIER = 0.01
"""Error (a share) that two retrained networks may be apart before they count as poorly connected. The paper reads it off plots."""


@dataclass(frozen=True)
class Point:
    """One setting of dense training, pruned to one density and retrained.

    Attributes:
        temperature: place of the setting among those tried, coldest first.
        density: what pruning left, as a share or as typed.
        connectivity: mode connectivity in error shares, mean over pairs of retrained copies; negative is a barrier.
        similarity: CKA of their outputs, mean over pairs.
        name: of the setting.
        error: of the retrained copies on held-out rows, where it was measured; no choice is made by it.
    """

    temperature: int
    density: float | str
    connectivity: float
    similarity: float
    name: str = ""
    error: float | None = None


@dataclass(frozen=True)
class RegimeMap:
    """All settings at all densities, with the regime of each.

    Attributes:
        points: in any order.
        barrier: connectivity below minus this is regime I.
        alike: similarity from which well connected is II-B.
    """

    points: tuple[Point, ...]
    barrier: float
    alike: float

    def regime(self, point: Point) -> Regime:
        """Of one point."""
        return regime(point.connectivity, point.similarity, barrier=self.barrier, alike=self.alike)

    def at(self, density: float | str) -> list[Point]:
        """The points of a density, coldest first."""
        found = sorted((p for p in self.points if p.density == density), key=lambda p: p.temperature)
        if not found:
            raise BadInput(
                f"nothing was measured at {density!r}; there is {sorted({str(p.density) for p in self.points})}"
            )
        return found

    def move(self, point: Point) -> Move:
        """Raise or lower the temperature before pruning again, or keep it where it is; never beyond what was tried."""
        return MOVES[self.regime(point)]

    def best(self, density: float | str) -> Point:
        """The setting to prune from: `select` among those of a density."""
        found = self.at(density)
        return found[select(found, barrier=self.barrier)]


def regime(connectivity: float, similarity: float, *, barrier: float = BARRIER, alike: float) -> Regime:
    """I, II-A or II-B.

    Args:
        connectivity: mode connectivity, in error shares.
        similarity: CKA of outputs.
        barrier: see `BARRIER`.
        alike: similarity from which outputs count as alike.
    """
    if connectivity < -barrier:
        return "I"
    return "II-B" if similarity >= alike else "II-A"


def regime_map(points: Sequence[Point], *, barrier: float = BARRIER, alike: float | None = None) -> RegimeMap:
    """Classify every point.

    Args:
        points: of a sweep.
        barrier: see `BARRIER`.
        alike: see `regime`; by default the median similarity of these points. Neither threshold is given in the paper.
    """
    if not points:
        raise BadInput("a map needs points: settings of dense training, pruned and retrained twice")
    if barrier < 0:
        raise BadInput(f"barrier is an error that is let pass, 0 or more, not {barrier}")
    return RegimeMap(
        tuple(points), barrier, float(np.median([p.similarity for p in points])) if alike is None else alike
    )


def select(models: Sequence[Point], *, barrier: float = BARRIER) -> int:
    """Which of several dense models to prune from, without labels of held-out rows: the best connected, by similarity if equal.

    Args:
        models: one point each, at the density that is wanted.
        barrier: those that are well connected are equal in it: what is left of their differences is noise of retraining.

    Returns:
        Position of the chosen one; the first of equals.
    """
    if not models:
        raise BadInput("there are no models to choose among")
    return max(range(len(models)), key=lambda at: (min(models[at].connectivity, -barrier), models[at].similarity, -at))


def tune(count: int, regime_of: Callable[[int], Regime]) -> int:
    """A setting for one density by few measurements: from the middle on, hotter in I, colder in II-A, until nothing changes.

    Args:
        count: settings, coldest first.
        regime_of: measures one of them (trains, prunes, retrains twice); asked once for each that is visited.

    Returns:
        Position of the setting at which the walk ends: II-B, an end of the range, or the border that it would cross back.
    """
    if count < 1:
        raise BadInput(f"there must be a setting to begin with, not {count}")
    at, seen = count // 2, dict[int, Regime]()
    while True:
        seen[at] = regime_of(at)
        step = {"raise": 1, "lower": -1, "keep": 0}[MOVES[seen[at]]]
        to = min(max(at + step, 0), count - 1)
        if to in seen:
            return at if seen[to] == "I" else to
        at = to
