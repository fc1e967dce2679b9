"""From measured selections to their part of a report: overlaps, class and cluster bars, examples, nearest kept rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.measure import embedded
from prunus.measure.ground import AIMS, Ground
from prunus.measure.measured import Measured
from prunus.prunables.dataset import Dataset
from prunus.report.build import thumbnail
from prunus.report.data import SharedBars, Thumbnail, Utility, Witness

SHOWN = 8  # examples of a kind
WITNESSES = 9  # dropped rows beside their nearest kept one
MOST_GROUPS = 24  # bars; of more, those on which the selections differ most
Kept = Mapping[str, np.ndarray]


def utilities(measured: Mapping[str, Sequence[Measured]]) -> tuple[tuple[str, tuple[Utility, ...]], ...]:
    """Every metric that was measured, in groups; several draws of a control as their mean and range."""
    found: list[tuple[str, tuple[Utility, ...]]] = []
    for group, aims in AIMS.items():
        lines = [_utility(name, aim, list(measured.values())) for name, aim in aims.items()]
        if kept := tuple(line for line in lines if any(value is not None for value in line.values)):
            found.append((group, kept))
    return tuple(found)


def _utility(name: str, aim: str, selections: Sequence[Sequence[Measured]]) -> Utility:
    draws = [[one[name][0] for one in several if name in one] for several in selections]
    values = tuple(float(np.mean(few)) if few else None for few in draws)
    return Utility(name, aim, values, tuple((min(few), max(few)) if len(few) > 1 else None for few in draws))


def overlaps(kept: Kept) -> tuple[tuple[str, str, int, int], ...]:
    """(one, other, rows in both, rows in either) for every pair of plans."""
    pairs = combinations(kept.items(), 2)
    return tuple((a, b, int(np.intersect1d(x, y).size), int(np.union1d(x, y).size)) for (a, x), (b, y) in pairs)


def bars(ground: Ground, kept: Kept, classes: Sequence[str] | None) -> tuple[SharedBars, ...]:
    """Rows of every class and of every cluster under each plan; clusters from the largest on, named by their number."""
    found: list[SharedBars] = []
    if ground.rows.labels is not None:
        labels = np.asarray(ground.rows.labels)
        names = [classes[c] if classes and c < len(classes) else str(c) for c in range(ground.classes)]
        found.append(_bars("class", labels, names, ground.rows.ids, kept))
    order = np.argsort(-np.bincount(ground.cluster), kind="stable")
    place = np.empty(order.size, dtype=np.int64)
    place[order] = np.arange(order.size)
    names = [f"cluster {number + 1}" for number in range(order.size)]
    return (*found, _bars("cluster", place[ground.cluster], names, ground.rows.ids, kept))


def _bars(what: str, member: NDArray[Any], names: Sequence[str], ids: np.ndarray, kept: Kept) -> SharedBars:
    sizes = np.bincount(member, minlength=len(names))
    counts = np.array([np.bincount(member[np.isin(ids, some)], minlength=len(names)) for some in kept.values()])
    shown = np.arange(len(names))
    title = f"Rows kept of each {what}"
    if len(names) > MOST_GROUPS:
        apart = np.ptp(counts, axis=0) / np.maximum(sizes, 1)
        shown = np.sort(np.argsort(-apart, kind="stable")[:MOST_GROUPS])
        title = f"Rows kept of each {what}: the {MOST_GROUPS} of {len(names)} on which the selections differ most"
    told = tuple(tuple(int(n) for n in one[shown]) for one in counts)
    return SharedBars(title, tuple(names[at] for at in shown.tolist()), tuple(int(n) for n in sizes[shown]), told)


def witnesses(ground: Ground, kept: np.ndarray, draw: Draw) -> tuple[Witness, ...]:
    """Dropped rows beside their nearest kept ones, evenly from the best to the worst covered."""
    stays = np.isin(ground.rows.ids, kept)
    here, gone = np.flatnonzero(stays), np.flatnonzero(~stays)
    if not gone.size or not here.size:
        return ()
    at, away = embedded.nearest(ground.rows.x[gone], ground.rows.x[here])
    order = np.lexsort((ground.rows.ids[gone], away))
    chosen = order[np.linspace(0, order.size - 1, min(WITNESSES, order.size)).round().astype(int)]
    shown = draw(ground.rows.ids[np.concatenate([gone[chosen], here[at[chosen]]])])
    half = len(chosen)
    return tuple(Witness(shown[n], shown[half + n], float(away[row])) for n, row in enumerate(chosen.tolist()))


def pictures(kept: Kept, draw: Draw) -> tuple[tuple[str, tuple[Thumbnail, ...]], ...]:
    """Examples of what one plan keeps and no other; empty where rows are no images."""
    found: list[tuple[str, tuple[Thumbnail, ...]]] = []
    for name, ids in kept.items():
        others = [some for other, some in kept.items() if other != name]
        alone = np.setdiff1d(ids, np.concatenate(others)) if others else ids
        chosen = draw(alone[np.linspace(0, alone.size - 1, min(SHOWN, alone.size)).astype(int)]) if alone.size else ()
        if any(one.source for one in chosen):
            found.append((f"Only in {name}" if others else f"Kept by {name}", chosen))
    return tuple(found)


class Draw:
    """Rows by id as small pictures, or as a line of text where they are no images.

    Args:
        data: all rows.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data

    def __call__(self, ids: np.ndarray) -> tuple[Thumbnail, ...]:
        """One for each id, in this order; ids may repeat."""
        unique, at = np.unique(ids, return_inverse=True)
        if not unique.size:
            return ()
        batch = next(self.data.batches(unique.size, ids=unique))
        x: Any = None if isinstance(batch, dict) else batch[1]
        seen = getattr(x, "ndim", 0) == 4 and x.shape[1] in (1, 3)
        captions = [self._caption(place) for place in self.data.positions(unique).tolist()]
        made = [
            thumbnail(x[n].numpy(), caption) if seen else Thumbnail("", caption) for n, caption in enumerate(captions)
        ]
        return tuple(made[n] for n in at.reshape(-1).tolist())

    def _caption(self, place: int) -> str:
        """`cat, train.parquet:7`, or the id alone."""
        labels, classes = self.data.labels, self.data.classes
        if labels is None:
            return str(self.data.ids[place])
        label = labels[place]
        known = classes is not None and labels.dtype.kind in "iu" and int(label) < len(classes)
        return f"{classes[int(label)] if known and classes else label}, {self.data.ids[place]}"
