"""What a cheap look at rows finds: how many, of how many classes, how unequal, how many copies, how many wrong labels.

One pass over at most READ rows for copies, and neighbours among at most COMPARED rows for wrong labels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from prunus.advise.wrong_labels import WrongLabels, wrong_labels
from prunus.core.budget import Budget
from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.prunables.dataset import Batch, Dataset
from prunus.prunables.roles import require_role
from prunus.signals.rowset import Signals
from prunus.sources.content import equal_groups, read_content

READ, COMPARED = 50_000, 5_000
SIDE, WIDEST = 8, 512


@dataclass(frozen=True)
class Situation:
    """What methods are looked up by.

    Attributes:
        name: of the data.
        rows, kept: before, and asked to stay.
        budget: what stays as a share, for a sample of these rows too: "30% rows".
        inputs: shape of one row's input; () where it is text, or of several parts.
        classes: 0 without class labels.
        imbalance: rows of the largest class for one of the smallest; None without classes.
        copies: share of the rows read whose content another row has.
        noise: share of wrong labels, estimated or given; None where it is not known.
        noise_at_most: what it can't be above; None where nothing could be compared.
        noise_given: the user said so.
        have: names of signals at hand.
    """

    name: str
    rows: int
    kept: int
    budget: str
    inputs: tuple[int, ...] = ()
    classes: int = 0
    imbalance: float | None = None
    copies: float = 0.0
    noise: float | None = None
    noise_at_most: float | None = None
    noise_given: bool = False
    have: frozenset[str] = frozenset()

    @property
    def share(self) -> float:
        """Kept, in 0..1."""
        return self.kept / self.rows

    @property
    def per_class(self) -> float:
        """Rows kept of a class, were all equal; of the whole set where there are no classes."""
        return self.kept / max(self.classes, 1)


def look(
    data: Dataset,
    budget: str | Budget,
    *,
    signals: Signals | None = None,
    have: Collection[str] = (),
    noise: float | None = None,
) -> Situation:
    """Probe rows.

    Args:
        data: rows of role fit.
        budget: what stays, in rows.
        signals: at hand for these rows; their embedding, where they have one, is used to look for wrong labels.
        have: names of further signals at hand.
        noise: share of wrong labels where it is known, in 0..1; otherwise it is estimated.

    Raises:
        BadInput: a budget that is not in rows, a noise that is no share. SplitError: the test set.
    """
    require_role(data, {"fit", "train", "val"}, what="advice on pruning rows")
    asked = Budget.parse(budget)
    if asked.unit != "rows":
        raise BadInput(f"advice is about rows: a budget such as '30% rows', not {asked.short()!r}")
    if noise is not None and not 0 <= noise < 1:
        raise BadInput(f"noise is the share of wrong labels, in 0..1, not {noise}")
    kept = asked.count(len(data))
    labels = data.labels
    classed = labels is not None and labels.ndim == 1 and labels.dtype.kind in "biu"
    _, sizes = np.unique(labels, return_counts=True) if classed and labels is not None else (None, np.zeros(0))
    found = None if noise is not None or not classed else _estimate(data, signals)
    names = frozenset(signals.names if signals is not None else ()) | frozenset(have)
    return Situation(
        name=data.name,
        rows=len(data),
        kept=kept,
        budget=asked.short() if "%" in asked.short() else f"{max(100 * kept / len(data), 0.1):.3g}% rows",
        inputs=_shape(data),
        classes=int(sizes.size),
        imbalance=float(sizes.max() / sizes.min()) if sizes.size else None,
        copies=_copies(data),
        noise=noise if noise is not None else found.share if found else None,
        noise_at_most=noise if noise is not None else found.at_most if found else None,
        noise_given=noise is not None,
        have=names,
    )


def _sample(data: Dataset, most: int) -> Dataset:
    return data if len(data) <= most else data.select(Rng(0, "advise").sample(data.ids, most))


def _shape(data: Dataset) -> tuple[int, ...]:
    x = _inputs(next(iter(data.batches(1))), data)
    return () if x is None else tuple(x.shape[1:])


def _inputs(batch: Batch, data: Dataset) -> torch.Tensor | None:
    """What a batch feeds: its input, or its columns side by side where all but ids and labels are numbers; else None."""
    if not isinstance(batch, dict):
        x = batch[1]
        return x if isinstance(x, torch.Tensor) and x.is_floating_point() else None
    parts = [values for name, values in batch.items() if name not in ("ids", data.label)]
    if not parts or not all(isinstance(values, torch.Tensor) and values.ndim == 1 for values in parts):
        return None
    return torch.stack([values.float() for values in parts], 1)


def _copies(data: Dataset) -> float:
    rows = _sample(data, READ)
    content = read_content(rows)
    groups = equal_groups(content.digests, content.readable)
    return sum(len(group) - 1 for group in groups) / max(len(rows), 1)


def _estimate(data: Dataset, signals: Signals | None) -> WrongLabels | None:
    rows = _sample(data, COMPARED)
    if signals is not None and "embedding" in signals.names:
        features = np.asarray(signals.align(rows.ids).embedding, dtype=np.float32)
    else:
        features = _features(rows)
    labels = rows.labels
    return None if features is None or labels is None else wrong_labels(features, labels.astype(np.int64), rows.ids)


def _features(rows: Dataset) -> NDArray[np.float32] | None:
    """The inputs as numbers `[n, d]`: small pixels, or columns; None for text and other things."""
    small = rows if rows.preprocess is None else rows.with_preprocess(size=SIDE)
    parts: list[torch.Tensor] = []
    for batch in small.batches(500):
        x = _inputs(batch, rows)
        if x is None:
            return None
        if x.ndim == 4 and max(x.shape[2:]) > SIDE:
            x = torch.nn.functional.adaptive_avg_pool2d(x, SIDE)
        parts.append(x.flatten(1))
    flat = torch.cat(parts)
    if flat.shape[1] > WIDEST:
        generator = Rng(0, "advise/projection").torch()
        flat = flat @ torch.randn(flat.shape[1], WIDEST, generator=generator) / flat.shape[1] ** 0.5
    return flat.numpy().astype(np.float32)
