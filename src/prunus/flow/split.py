"""Splitting a budget of rows over classes or clusters, before a selector chooses inside each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prunus.allocate.request import Request
from prunus.core import registry
from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.core.score import GroupScore
from prunus.select.by_label import labels_of
from prunus.select.dbp import default_clusters
from prunus.select.embedded import embedded
from prunus.signals.rowset import Signals

OVER = "over is class, clusters, or clusters:NUMBER"


@dataclass(frozen=True)
class Split:
    """What splits a budget, and over what.

    Attributes:
        allocate: name of an allocator.
        over: `class`, `clusters` (of embeddings; about sqrt(n) of them, at most 100), or `clusters:50`.
        options: the allocator's own.
        val: signals of validation rows with probs and labels, for allocators that go by recall.
        seed: of the clusters.
    """

    allocate: str
    over: str = "class"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    val: Signals | None = None
    seed: int = 0

    def parts(
        self, group: GroupScore, free: np.ndarray, count: int, floor: int
    ) -> tuple[list[np.ndarray], list[int], dict[str, str]]:
        """Positions of every class or cluster, how many of them stay, and what the allocator states about its answer.

        Args:
            group: all rows.
            free: positions that may be chosen.
            count: rows that stay, of these.
            floor: least rows of each part; a part that has fewer keeps all of them. The floor of 1 that budgets have
                unless told otherwise gives way where there are more parts than rows to keep.

        Raises:
            BadInput: no labels, no embedding, or no such allocator. BudgetUnreachable: the floors need more rows.
        """
        method = registry.find(self.allocate, kind="allocator")
        method.check_options(dict(self.options))
        reads = "recalls" in method.needs and self.options.get("recall") is None
        if reads and self.over != "class":
            raise BadInput(f"{method.name} goes by the recall of classes: over='class', not {self.over!r}")
        names, members = self._members(group)
        parts = [free[members[free] == index] for index in range(len(names))]
        request = Request.of(
            [part.size for part in parts],
            count,
            names=names,
            floors=0 if floor == 1 and len(names) > count else floor,
            scores=[np.asarray(group.values)[part] for part in parts],
            sense=group.sense,
            ids=[group.ids[part] for part in parts],
            recalls=recalls(self.val, names) if self.val is not None and reads else None,
        )
        small = [name for name, part in zip(names, parts) if part.size < floor]
        notes = {"floor": f"{len(small)} have fewer than {floor} rows and keep all: {small[:5]}"} if small else {}
        counts = method.load()(request, **self.options).tolist()
        return parts, counts, request.notes | notes

    def told(self) -> dict[str, Any]:
        """As provenance: the allocator, and what is not as it would be anyway."""
        more = {"over": self.over} if self.over != "class" else {}
        return {"allocate": self.allocate} | more | ({"allocate_options": dict(self.options)} if self.options else {})

    def _members(self, group: GroupScore) -> tuple[list[str], np.ndarray]:
        """Names of the parts, and the part of each row, int64 `[n]`."""
        if self.over == "class":
            if getattr(group.signals, "labels", None) is None:
                raise BadInput(
                    "splitting a row budget over classes needs labels, and these rows have none: leave allocate out, "
                    "or split over clusters of their embeddings (over='clusters')"
                )
            names, members = np.unique(labels_of(group), return_inverse=True)
            return [str(name) for name in names.tolist()], members
        kind, _, number = self.over.partition(":")
        if kind != "clusters" or (number and not (number.isdigit() and int(number))):
            raise BadInput(f"{OVER}, not {self.over!r}")
        rows = embedded(group, 0, "splitting a budget over clusters")
        wanted = int(number) if number else default_clusters(rows.ids.size)
        assigned = rows.clusters(wanted, 20, None, Rng(self.seed, "split/clusters")).assigned
        members = np.empty(assigned.size, dtype=np.int64)
        members[rows.at] = assigned
        used, members = np.unique(members, return_inverse=True)
        return [f"{index:0{len(str(used.size))}d}" for index in range(used.size)], members


def split_of(settings: dict[str, Any], val: Signals | None) -> Split | None:
    """Take `allocate`, `over` and the allocator's own options out of the settings of a plan; None without allocator."""
    name, over = settings.pop("allocate", None), settings.pop("over", None)
    if name is None or isinstance(name, Split):
        if over is not None:
            raise BadInput(f"over={over!r} says what an allocator splits a budget over: name one, allocate='uniform'")
        return name
    known = registry.find(name, kind="allocator").keywords
    options = {option: settings.pop(option) for option in known if option in settings}
    return Split(name, over or "class", options, val, settings.get("seed", 0))


def recalls(val: Signals, names: list[str]) -> np.ndarray:
    """The share of each class's validation rows that is predicted rightly, float64 `[classes]`.

    Args:
        val: with `probs [m, c]` (or logits) and `labels [m]`.
        names: labels as text.

    Raises:
        BadInput: a signal is missing, or a class has no validation rows.
    """
    if missing := [name for name in ("probs", "labels") if name not in val.names]:
        raise BadInput(f"validation signals need {' and '.join(missing)}; these hold {', '.join(val.names)}")
    labels = np.asarray(val.labels)
    right = np.asarray(val.probs).argmax(1) == labels
    texts = np.array([str(label) for label in labels.tolist()])
    if absent := [name for name in names if not (texts == name).any()]:
        raise BadInput(f"classes {absent[:5]} have no validation rows, so their recall is not known: give more of them")
    return np.array([right[texts == name].mean() for name in names])
