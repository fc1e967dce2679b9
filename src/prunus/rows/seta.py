"""SeTa: random rows, grouped by loss; a window of groups slides from easy to hard, epoch by epoch (Zhou et al. 2025).

Removes: rows, other ones in every epoch; a random part of all trains at the end (partial annealing).
Needs: the loss of every row from the ordinary forward pass, reported by id; no pass of its own.
Cost: one sort of the losses for each epoch, and k-means of 1,024 bins, O(G 1024^2); 4 bytes a row, 5 with the plan.
Departures: floor((1 - prune_ratio) n) rows are drawn and grouped by k-means of their losses; epoch 0 trains on all groups,
  epoch t on the round(G window) groups from t mod (G - round(G window) + 1) on. Weights stay 1: unlike infobatch this is a
  biased curriculum. k-means is exact where there are at most 1,024 distinct losses, else within rounding of bins, and
  needs no draw; `parity="official"` is the released one (scikit-learn, random_state 0), a second per million rows.
  `grouping="quantile"` (ours) makes groups of equal size, so that the rows of an epoch are known beforehand. Equal losses
  are dealt into G chunks, as released. Fewer distinct losses than groups: fewer groups, where the released code sorts
  by NaN. Draws are keyed hashes of (seed, epoch, id) where the released code seeds global generators; nothing is patched.
  A loss that is not finite is reported and keeps its row in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, require
from prunus.core.registry import dynamic
from prunus.core.rng import Rng, shuffled
from prunus.maths import intervals
from prunus.rows.by_loss import ByLoss, Choice
from prunus.rows.dynamic import Ids, Positions


@dataclass(frozen=True, eq=False)
class Groups:
    """Rows by difficulty.

    Attributes:
        of: int64 `[n]` in the order of the ids: 0 is the easiest group, -1 a row that was not drawn.
        centres: float64 `[G]`, mean loss of each group, ascending.
    """

    of: Positions
    centres: NDArray[np.float64]


@dynamic(unit="rows", needs=("loss",), card="seta", name="seta")
class SeTa(ByLoss):
    """A cyclic curriculum over groups of losses, which training reports with `seen`."""

    name = "SeTa"

    def __init__(
        self,
        ids: ArrayLike,
        *,
        seed: int = 0,
        epochs: int | None = None,
        prune_ratio: float = 0.1,
        groups: int = 5,
        window: float = 0.6,
        delta: float = 0.875,
        grouping: Literal["kmeans", "quantile"] = "kmeans",
        parity: Literal["paper", "official"] = "paper",
        draw: Callable[[int, Ids, int], Ids] | None = None,
    ) -> None:
        """Check the options; draws nothing yet.

        Args:
            ids: of the rows, int or text `[n]`, unique; their order does not matter.
            seed: of the draws.
            epochs: of the whole training, for annealing; None = never anneal.
            prune_ratio: share of all rows that sit out an epoch by chance, in [0, 0.9].
            groups: G, of losses; 1 with window=1 is plain random pruning.
            window: share of the groups that train in one epoch.
            delta: share of the epochs after which groups are given up.
            grouping: kmeans, or quantile for groups of equal size.
            parity: paper, or official for the released k-means.
            draw: `f(t, ids, count)` -> the `count` of these ids that are grouped, in place of the seed.

        Raises:
            BadInput: ids or options that can't be.
        """
        super().__init__(ids, seed=seed, epochs=epochs, delta=delta)
        if not 0 <= prune_ratio <= 0.9:
            raise BadInput(f"prune_ratio must lie in [0, 0.9], not {prune_ratio}")
        if groups < 1 or not 0 < window <= 1 or round(groups * window) < 1:
            raise BadInput(f"a window of {window} over {groups} groups holds no group: raise window, at most to 1")
        if grouping not in ("kmeans", "quantile") or parity not in ("paper", "official"):
            raise BadInput(f"grouping is kmeans or quantile, parity paper or official, not {grouping}, {parity}")
        self.prune_ratio, self.groups, self.window = prune_ratio, groups, window
        self.grouping, self.parity = grouping, parity
        self._draw = draw
        self._count = max(int((1 - prune_ratio) * len(self.rows)), 1)

    def bounds(self, t: int) -> tuple[int, int]:
        """The rows drawn where groups play no part or have equal sizes; else from one for each group in the window."""
        width = round(self.groups * self.window)
        if t == 0 or width == self.groups or self.annealed(t):
            return self._count, self._count
        if self.grouping == "quantile" and self._count >= self.groups:
            sizes = np.diff(_cuts(self._count, self.groups))
            return int(np.sort(sizes)[:width].sum()), int(np.sort(sizes)[-width:].sum())
        return min(self._count, 1), self._count

    def grouped(self, t: int) -> Groups:
        """The rows drawn for epoch `t`, by their losses as they are."""
        at = self._drawn(t)
        known = at[np.isfinite(self.loss[at])]
        number = self._grouping(t, known)
        centres = np.bincount(number, self.loss[known]) / np.maximum(np.bincount(number), 1)
        of = np.full(len(self.rows), -1)
        of[known] = number
        return Groups(of, centres)

    def span(self, t: int, groups: int) -> tuple[int, int]:
        """First group of epoch `t`, and the one after its last."""
        width = max(round(groups * self.window), 1)
        start = 0 if t == 0 else t % (groups - width + 1)
        return (0, groups) if t == 0 else (start, start + width)

    def _choose(self, t: int) -> Choice:
        lost = ~np.isfinite(self.loss)
        if self.annealed(t) or (
            t == 0 and self.grouping == "kmeans" and not lost.any()
        ):  # all groups: no need to group
            kept = np.zeros(len(self.rows), dtype=bool)
            kept[self._drawn(t)] = True
            return Choice(kept | lost)
        groups = self.grouped(t)
        start, end = self.span(t, groups.centres.size)
        return Choice(((groups.of >= start) & (groups.of < end)) | lost)

    def _drawn(self, t: int) -> Positions:
        """Ranks of the rows that are grouped."""
        if self._draw is None:
            return Rng(self.seed, f"seta/{t}").sample(self.rows.sorted, self._count)
        chosen = np.asarray(self._draw(t, self.rows.sorted, self._count))
        if chosen.shape != (self._count,) or np.unique(chosen).size != self._count:
            raise BadInput(f"draw({t}, ids, {self._count}) must return {self._count} distinct ids of those given")
        return self.rows.ranks(chosen)

    def _grouping(self, t: int, at: Positions) -> Positions:
        """The group of each of some ranks, int64 `[k]`."""
        losses = self.loss[at]
        if not at.size or (losses == losses[0]).all():
            order = np.arange(at.size) if self._draw else shuffled(self.seed, f"seta/{t}/deal", self.rows.sorted[at])
            return _placed(order, _chunks(at.size, self.groups))
        if self.grouping == "quantile":
            return _placed(np.argsort(losses, kind="stable"), _cuts(at.size, min(self.groups, at.size)))
        if self.parity == "official":
            return _released(losses, min(self.groups, np.unique(losses).size))
        return intervals.assign(losses, intervals.intervals(losses, self.groups))

    def _options(self) -> dict[str, Any]:
        names = ("prune_ratio", "groups", "window", "grouping", "parity")
        return {name: getattr(self, name) for name in names}


def _placed(order: Positions, cuts: Positions) -> Positions:
    """The piece of each row when rows in this order are cut here."""
    number = np.empty(order.size, dtype=np.int64)
    number[order] = np.searchsorted(cuts[1:], np.arange(order.size), side="right")
    return number


def _cuts(count: int, groups: int) -> Positions:
    """Borders of groups whose sizes differ by 1 at most, int64 `[groups + 1]`."""
    return np.arange(groups + 1) * count // groups


def _chunks(count: int, groups: int) -> Positions:
    """Borders of chunks of ceil(count / groups), the last of which is shorter; there can be fewer."""
    size = max(-(-count // groups), 1)
    return np.append(np.arange(0, count, size), count) if count else np.zeros(2, dtype=np.int64)


def _released(losses: NDArray[np.float32], groups: int) -> Positions:
    """Groups by scikit-learn's k-means, in the order of their mean losses."""
    found = require("sklearn.cluster", "data").KMeans(n_clusters=groups, random_state=0).fit_predict(losses[:, None])
    means = np.bincount(found, losses, minlength=groups) / np.maximum(np.bincount(found, minlength=groups), 1)
    return np.argsort(np.argsort(means))[found]
