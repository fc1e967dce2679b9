"""What selections of rows are measured on: all rows under one embedding, their clusters, and reference rows; made once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.score import Score
from prunus.maths import euclidean
from prunus.measure import class_counts as counts_of
from prunus.measure import embedded, knn
from prunus.measure.measured import Interval, Measured, role_facts
from prunus.measure.predict import Predictions
from prunus.measure.stats import wilson
from prunus.prunables.dataset import Dataset
from prunus.prunables.roles import require_role
from prunus.prunables.rowids import positions_of
from prunus.signals.rowset import Signals

Metrics = dict[str, tuple[float, Interval]]
WIDEST = 4096  # numbers of a row that stand for it where no embedding is given
AIMS = {
    "Balance": {
        "classes": "higher",
        "smallest_class": "higher",
        "rare_classes": "lower",
        "evenness": "higher",
        "head_share": "",
    },
    "Coverage": {"distance_to_kept": "lower", "radius": "lower", "clusters": "higher"},
    "Quality": {"label_agreement": "higher", "copy_share": "lower", "rank": ""},
    "Use": {
        "knn_accuracy": "higher",
        "knn_top5_accuracy": "higher",
        "probe_accuracy": "higher",
        "size_correlation": "",
    },
    "Shift": {"target_shift": "lower", "class_shift": "lower"},
}
"""Group -> metric -> which direction is better, "" where it depends."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that are measured on: ids `[n]`, embedding `[n, d]`, labels `[n]` or None, and where they come from."""

    ids: np.ndarray
    x: NDArray[np.floating]
    labels: NDArray[np.integer] | None
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, data: Dataset, signals: Signals | None) -> Rows:
        """The rows of a dataset under the embedding among the signals, else under their own numbers.

        Raises:
            BadInput: no embedding, and rows that are not numbers of one width up to 4,096.
            IdMismatch: rows without signals.
        """
        labels = data.labels if data.labels is not None and data.labels.dtype.kind in "iu" else None
        if signals is not None and "embedding" in signals.names:
            x = np.asarray(signals.align(data.ids).field("embedding"))
            facts = {"embedding": str(signals.provenance.get("model", "given"))}
        else:
            x, facts = _own_numbers(data), {"embedding": "the rows' own numbers"}
        return cls(data.ids, x.reshape(len(x), -1), labels, facts)

    def take(self, at: NDArray[np.int64]) -> Rows:
        """The rows at these positions."""
        return Rows(self.ids[at], self.x[at], None if self.labels is None else self.labels[at], self.facts)


def _own_numbers(data: Dataset) -> np.ndarray:
    parts: list[np.ndarray] = []
    for batch in data.batches(1024):
        x: Any = None if isinstance(batch, dict) else batch[1]
        if not hasattr(x, "flatten") or x.flatten(1).shape[1] > WIDEST:
            raise BadInput(f"rows of {data.name} are too wide to compare as they are: give signals with an embedding")
        parts.append(x.flatten(1).numpy())
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Ground:
    """What selections of one data set are measured on, made once for all of them.

    Attributes:
        rows: all rows; reference: labelled ones of role val or test, or None.
        cluster: int64 `[n]`, of all rows.
        classes: size of the label set.
        ranks: float64 `[n]` in [0, 1], how hard each row is by a score, or None.
        k, temperature, eps, fewer_than, most, parity: as in `curation`.
    """

    rows: Rows
    reference: Rows | None
    cluster: NDArray[np.int64]
    classes: int
    ranks: NDArray[np.float64] | None
    k: int = 20
    temperature: float = 0.07
    eps: float = 0.05
    fewer_than: int | None = None
    most: int | None = None
    parity: Literal["paper", "official"] = "paper"

    @cached_property
    def _agrees(self) -> NDArray[np.bool_]:
        """Of every row, because the neighbours are those among all rows, whatever is selected."""
        assert self.rows.labels is not None
        return embedded.agrees(self.rows.labels, self.rows.x, k=self.k)

    def measure(self, kept: np.ndarray) -> Measured:
        """Every metric of the rows with these ids."""
        order = np.argsort(self.rows.ids, kind="stable")
        at = np.sort(positions_of(self.rows.ids, kept, order=order, name="the data"))
        if not at.size:
            raise BadInput("a selection without rows can't be measured")
        found: Metrics = {"rows": (float(at.size), None)}
        chosen, predictions = self.rows.take(at), None
        if chosen.labels is not None:
            found |= self._balance(chosen.labels)
        found |= self._coverage(at) | self._quality(at)
        if self.reference is not None:
            used, predictions = self._use(chosen)
            found |= used | self._shift(chosen)
        made = Measured({name: value for name, value in found.items() if np.isfinite(value[0])}, **self.rows.facts)
        made.predictions = predictions
        return made

    def _balance(self, labels: NDArray[np.integer]) -> Metrics:
        counts = counts_of.class_counts(labels, self.classes)
        few = -(-labels.size // (2 * self.classes)) if self.fewer_than is None else self.fewer_than
        numbers = {"classes": counts_of.coverage(counts), "smallest_class": counts.min()}
        numbers |= {"rare_classes": counts_of.rare(counts, few), "evenness": counts_of.evenness(counts)}
        return _plain({**numbers, "head_share": counts_of.head_share(counts)})

    def _coverage(self, at: NDArray[np.int64]) -> Metrics:
        points = self.rows if self.reference is None else self.reference
        away = embedded.nearest(points.x, self.rows.x[at])[1]
        return _plain(
            {"distance_to_kept": away.mean(), "radius": away.max(), "clusters": np.unique(self.cluster[at]).size}
        )

    def _quality(self, at: NDArray[np.int64]) -> Metrics:
        numbers: dict[str, Any] = {"copy_share": embedded.copies(self.rows.x[at], self.eps)}
        if self.rows.labels is not None and len(self.rows.ids) > 1:
            numbers["label_agreement"] = self._agrees[at].mean()
        if self.ranks is not None:
            numbers["rank"] = self.ranks[at].mean()
        return _plain(numbers)

    def _use(self, chosen: Rows) -> tuple[Metrics, Predictions | None]:
        reference = self.reference
        if chosen.labels is None or reference is None or reference.labels is None:
            return {}, None
        if self.most is not None:
            chosen = chosen.take(counts_of.capped(chosen.labels, chosen.ids, self.most))
        assert chosen.labels is not None
        ranked = knn.vote(
            chosen.x, chosen.labels, reference.x, k=self.k, temperature=self.temperature, parity=self.parity
        )
        truth = np.asarray(reference.labels)
        found = {"knn_accuracy": _share(knn.hits(ranked, truth))}
        if self.classes > 5 and self.k >= 5:  # among five or fewer a top 5 says nothing
            found["knn_top5_accuracy"] = _share(knn.hits(ranked, truth, 5))
        found["probe_accuracy"] = _share(embedded.probe(chosen.x, chosen.labels, reference.x) == truth)
        counts = counts_of.class_counts(chosen.labels, self.classes)
        called = np.bincount(np.maximum(ranked[:, 0], 0), minlength=self.classes)
        right = np.bincount(truth[ranked[:, 0] == truth], minlength=self.classes)
        seen = called > 0
        found["size_correlation"] = (counts_of.correlation(right[seen] / called[seen], counts[seen]), None)
        return found, Predictions(reference.ids, truth, ranked[:, 0], (ranked[:, 0] != truth).astype(np.float64))

    def _shift(self, chosen: Rows) -> Metrics:
        target = self.reference
        assert target is not None
        numbers: dict[str, Any] = {"target_shift": embedded.shift(chosen.x, target.x, chosen.ids, target.ids)}
        if chosen.labels is not None and target.labels is not None:
            pair = (counts_of.class_counts(labels, self.classes) for labels in (chosen.labels, target.labels))
            numbers["class_shift"] = counts_of.distance(*pair)
        return _plain(numbers)


def _plain(numbers: dict[str, Any]) -> Metrics:
    return {name: (float(value), None) for name, value in numbers.items()}


def _share(right: NDArray[np.bool_]) -> tuple[float, Interval]:
    return float(right.mean()), wilson(int(right.sum()), right.size)


def ground(
    data: Dataset,
    *,
    signals: Signals | None = None,
    reference: Dataset | None = None,
    reference_signals: Signals | None = None,
    score: Score | None = None,
    clusters: int = 20,
    seed: int = 0,
    **settings: Any,
) -> Ground:
    """What selections of `data` are measured on; arguments as in `curation`."""
    require_role(data, {"fit", "val", "train"}, what="measuring selections")
    if reference is not None:
        require_role(reference, {"val", "test"}, what="the reference of a selection")
    rows = Rows.of(data, signals)
    beside = None if reference is None else Rows.of(reference, reference_signals)
    if beside is not None and beside.x.shape[1] != rows.x.shape[1]:
        raise BadInput(
            f"rows have {rows.x.shape[1]} numbers and those of the reference {beside.x.shape[1]}: use one encoder"
        )
    if beside is not None and reference is not None:
        rows.facts.update({f"reference_{name}": value for name, value in role_facts(reference, len(reference)).items()})
    order = np.argsort(rows.ids, kind="stable")
    cluster = np.empty(len(order), dtype=np.int64)
    cluster[order] = euclidean.kmeans(rows.x[order], clusters, seed=seed)
    labels = [one.labels for one in (rows, beside) if one is not None and one.labels is not None]
    named = len(data.classes or ())
    classes = max([named, *(int(one.max(initial=0)) + 1 for one in labels)])
    return Ground(rows, beside, cluster, classes, _ranks(score, rows.ids), **settings)


def _ranks(score: Score | None, ids: np.ndarray) -> NDArray[np.float64] | None:
    """Place of each row from the easiest (0) to the hardest (1); for a keep score, from the last to the first to keep."""
    if score is None:
        return None
    group = score.group("rows")
    place = np.empty(group.ids.size)
    place[group.keep_order("hard")] = np.linspace(1, 0, group.ids.size)
    return place[positions_of(group.ids, ids, order=np.argsort(group.ids, kind="stable"), name="the score")]
