"""check_data: what is wrong with rows before anyone scores them: unreadable, duplicate, contradictory, leaking, unbalanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from prunus.core.table import columns as lined_up
from prunus.prunables.dataset import Dataset
from prunus.sources.content import Content, Progress, equal_groups, read_content, shared
from prunus.sources.near import near_groups, sketch_of

SHOWN = 10
UNKNOWN = np.iinfo(np.int64).min


@dataclass(frozen=True)
class DataReport:
    """What `check_data` found. Ids stand for rows throughout.

    Attributes:
        name: of the data.
        role: fit, val, test or train.
        rows: how many.
        columns: one dict a column: name, kind, missing, not_finite, low, high, sizes.
        classes: class name -> rows; {} without class labels.
        unreadable: id -> reason.
        duplicates: groups of ids with equal content (pixels, text, numbers; labels aside).
        conflicts: the duplicate groups whose labels differ: (ids, labels).
        near_duplicates: groups that are almost equal, when asked for, else None.
        leaks: (id here, id in the other data), when another was given, else None.
        other: name of that other data.
    """

    name: str
    role: str
    rows: int
    columns: Sequence[Mapping[str, Any]]
    classes: Mapping[str, int]
    unreadable: Mapping[str, str]
    duplicates: Sequence[tuple[Any, ...]]
    conflicts: Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]]
    near_duplicates: Sequence[tuple[Any, ...]] | None = None
    leaks: Sequence[tuple[Any, Any]] | None = None
    other: str = ""
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def spare(self) -> int:
        """Rows that could go because another has the same content."""
        return sum(len(group) - 1 for group in self.duplicates)

    @property
    def imbalance(self) -> float | None:
        """Rows of the largest class for one row of the smallest; None without classes."""
        counts = list(self.classes.values())
        return max(counts) / max(min(counts), 1) if counts else None

    def problems(self) -> list[str]:
        """One sentence for each thing to look at; [] when there is none."""
        found: list[str] = []
        if self.unreadable:
            found.append(f"{_rows(len(self.unreadable))} can't be read: {_shown(self.unreadable)}")
        if self.duplicates:
            found.append(
                f"{_rows(self.spare)} could go: their content is there already ({len(self.duplicates)} groups)"
            )
        if self.conflicts:
            first = [list(ids) for ids, _ in self.conflicts[:3]]
            found.append(f"{len(self.conflicts)} of these groups carry different labels: {first}")
        for column in self.columns:
            bad = column["missing"] + column["not_finite"]
            if bad:
                found.append(f"column {column['name']} has {bad} missing, NaN or infinite values")
        if self.near_duplicates:
            spare = sum(len(group) - 1 for group in self.near_duplicates)
            found.append(f"{_rows(spare)} could go: almost the same is there ({len(self.near_duplicates)} groups)")
        if self.leaks:
            found.append(f"{_rows(len(self.leaks))} also in {self.other}: {_shown([here for here, _ in self.leaks])}")
        empty = [name for name, count in self.classes.items() if count == 0]
        if empty:
            found.append(f"classes without rows: {_shown(empty)}")
        return [*found, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        return {**asdict(self), "spare": self.spare, "imbalance": self.imbalance, "problems": self.problems()}

    def __str__(self) -> str:
        head = f"{self.name}: {self.rows:,} rows, role {self.role}"
        cells = [[str(c["name"]), str(c["kind"]), str(c["missing"] + c["not_finite"]), _range(c)] for c in self.columns]
        parts = [head, lined_up(("column", "kind", "bad", "range"), cells, right=(2,))]
        if self.classes:
            share = [
                [name, f"{count:,}", f"{100 * count / max(self.rows, 1):.1f} %"] for name, count in self.classes.items()
            ]
            more = [] if len(share) <= 30 else [f"... and {len(share) - 30} more classes"]
            parts += [lined_up(("class", "rows", "share"), share[:30], right=(1, 2)), *more]
            parts.append(f"largest to smallest class: {self.imbalance:.2f}")
        parts += [f"- {problem}" for problem in self.problems()] or ["no problem found"]
        return "\n".join(parts)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _shown(items: Any) -> str:
    listed = [str(item) for item in items]
    return ", ".join(listed[:SHOWN]) + (f", ... ({len(listed) - SHOWN} more)" if len(listed) > SHOWN else "")


def _range(column: Mapping[str, Any]) -> str:
    if column["sizes"]:
        sizes = sorted(column["sizes"].items(), key=lambda item: -item[1])
        return ", ".join(f"{size} ({count:,})" for size, count in sizes[:3]) + (" ..." if len(sizes) > 3 else "")
    if column["low"] is None:
        return ""
    unit = " characters" if column["kind"] == "text" else ""
    return f"{column['low']:g} .. {column['high']:g}{unit}"


def check_data(
    data: Dataset,
    other: Dataset | None = None,
    *,
    near: bool = False,
    near_threshold: float = 0.8,
    progress: Progress | None = None,
) -> DataReport:
    """Look at every row once.

    Args:
        data: the rows.
        other: rows that should share none with `data` (the test set of a training set).
        near: also look for near duplicates (images by difference hash, text by MinHash; needs memory for both).
        near_threshold: Jaccard similarity of texts from which they count as near.
        progress: called with (rows done, rows).
    """
    content = read_content(data, sketch=sketch_of() if near else None, progress=progress)
    readable, ids = content.readable, data.ids
    labels = _labels(data, content)
    groups = equal_groups(content.digests, readable)
    facts = [_facts(column) for column in content.columns.values()]
    notes = [f"column {column.name} has one value only" for column in content.columns.values() if column.constant]
    if data.uncached:
        notes.append(f"signals will not be cached: {data.uncached}")
    if data.quarantined:
        notes.append(f"{len(data.quarantined)} unreadable rows were left out when opening: {_shown(data.quarantined)}")
    near_ids = None
    if near:
        near_ids = [tuple(ids[group].tolist()) for group in near_groups(content.tokens, threshold=near_threshold)]
    return DataReport(
        name=data.name,
        role=data.role,
        rows=len(data),
        columns=facts,
        classes=_classes(labels, data.classes),
        unreadable={str(ids[place]): why for place, why in sorted(content.unreadable.items())},
        duplicates=[tuple(ids[group].tolist()) for group in groups],
        conflicts=_conflicts(labels, ids, groups),
        near_duplicates=near_ids,
        leaks=None if other is None else _leaks(data, content, other, progress),
        other="" if other is None else other.name,
        notes=tuple(notes),
    )


def _facts(column: Any) -> dict[str, Any]:
    facts = asdict(column)
    empty = column.low > column.high
    return {**facts, "low": None if empty else column.low, "high": None if empty else column.high}


def _labels(data: Dataset, content: Content) -> np.ndarray | None:
    """Class numbers `[n]`, UNKNOWN where the row that would tell could not be read; None for anything else."""
    labels = data.known_labels
    if labels is None and content.labels and all(isinstance(label, int) for label in content.labels.values()):
        labels = np.array([content.labels.get(place, UNKNOWN) for place in range(len(data))], dtype=np.int64)
    return None if labels is None or labels.ndim != 1 or labels.dtype.kind == "f" else labels


def _classes(labels: np.ndarray | None, names: Sequence[str] | None) -> dict[str, int]:
    if labels is None:
        return {}
    values, counts = np.unique(labels[labels != UNKNOWN], return_counts=True)
    held = dict(zip(values.tolist(), counts.tolist()))
    if names is None:
        return {str(value): count for value, count in held.items()}
    return {name: held.get(number, 0) for number, name in enumerate(names)}


def _conflicts(
    labels: np.ndarray | None, ids: np.ndarray, groups: Sequence[np.ndarray]
) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    if labels is None:
        return []
    differing = [group for group in groups if len(np.unique(labels[group])) > 1]
    return [(tuple(ids[group].tolist()), tuple(labels[group].tolist())) for group in differing]


def _leaks(data: Dataset, content: Content, other: Dataset, progress: Progress | None) -> list[tuple[Any, Any]]:
    theirs = read_content(other, progress=progress)
    pairs = shared(content.digests, theirs.digests, content.readable, theirs.readable)
    return [(data.ids[here].item(), other.ids[there].item()) for here, there in pairs]
