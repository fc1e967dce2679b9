"""Batches in an order that is a function of (seed, epoch, ids) only: not of row order, workers or what ran before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput, IdMismatch
from prunus.core.rng import uniform


class Feed:
    """Any training data as epochs of batches.

    Understood: a tuple of arrays `(x, y)` or `(ids, x, y)`; anything with `ids` and
    `batches(batch, ids=)`; a map-style torch dataset (its `ids` attribute, else 0..n-1); an iterable of ready batches,
    such as a DataLoader.

    Args:
        data: one of these.
        batch: rows per batch (ready batches keep their own size).
    """

    def __init__(self, data: Any, batch: int) -> None:
        if batch < 1:
            raise BadInput(f"batch must be 1 or more, not {batch}")
        self._data, self.batch = data, batch
        self._arrays = _as_arrays(data)
        self._ready = self._arrays is None and not hasattr(data, "__getitem__") and not hasattr(data, "batches")
        self._batched = self._arrays is None and not self._ready and hasattr(data, "batches")
        if isinstance(data, list):
            self._ready = True
        self._ids = np.zeros(0, np.int64) if self._ready else self._find_ids()
        if not self._ready and len(self._ids) == 0:
            raise BadInput("there are no rows to train on")

    @property
    def ids(self) -> np.ndarray | None:
        """Ids of all rows, or None for ready batches."""
        return None if self._ready else self._ids

    def __len__(self) -> int:
        """Batches in an epoch over all rows."""
        if self._ready:
            return len(self._data)
        return -(-len(self._ids) // self.batch)

    def length(self, ids: np.ndarray | None) -> int:
        """Batches in an epoch over these rows."""
        return len(self) if ids is None else -(-len(ids) // self.batch)

    def epoch(self, seed: int, epoch: int, ids: np.ndarray | None = None, skip: int = 0) -> Iterator[Any]:
        """Batches of one epoch: `(ids, x, y)`, or what the data give.

        Args:
            seed: of the order.
            epoch: counts from 0.
            ids: rows of this epoch (may repeat); all by default.
            skip: leading batches to leave out (resuming).

        Raises:
            IdMismatch: an id is not among the rows.
        """
        if self._ready:
            if ids is not None:
                raise BadInput("ready-made batches can't follow a plan of rows; give the dataset instead of a loader")
            yield from _skipped(self._data, skip)
        else:
            yield from self._gathered(seed, epoch, ids, skip)

    def _gathered(self, seed: int, epoch: int, ids: np.ndarray | None, skip: int) -> Iterator[Any]:
        rows = np.arange(len(self._ids)) if ids is None else self._positions(ids)
        chosen = self._ids[rows]
        order = rows[np.lexsort((chosen, uniform(seed, f"order/{epoch}", chosen)))]
        order = order[skip * self.batch :]
        if self._batched:
            yield from self._data.batches(self.batch, ids=self._ids[order])
            return
        for start in range(0, len(order), self.batch):
            yield self._fetch(order[start : start + self.batch])

    def _fetch(self, rows: np.ndarray) -> Any:
        if self._arrays is not None:
            _, x, y = self._arrays
            index = torch.from_numpy(rows)
            return self._ids[rows], x[index], y[index]
        items = [self._data[int(row)] for row in rows]
        batch = torch.utils.data.default_collate(items)
        if isinstance(batch, Mapping):
            return {"ids": self._ids[rows], **batch}
        return (self._ids[rows], *batch) if len(batch) == 2 else batch

    def _positions(self, ids: np.ndarray) -> np.ndarray:
        order = np.argsort(self._ids, kind="stable")
        at = np.searchsorted(self._ids, ids, sorter=order)
        rows = order[np.minimum(at, len(order) - 1)]
        missing = np.asarray(ids)[self._ids[rows] != ids]
        if missing.size:
            raise IdMismatch(f"{missing.size} ids are not in the data, such as {missing[:3].tolist()}")
        return rows

    def _find_ids(self) -> np.ndarray:
        if self._arrays is not None:
            return self._arrays[0]
        ids = getattr(self._data, "ids", None)
        return np.arange(len(self._data)) if ids is None else np.asarray(ids)


def _as_arrays(data: Any) -> tuple[np.ndarray, Tensor, Tensor] | None:
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        return None
    x, y = (torch.as_tensor(part) for part in data[-2:])
    if len(x) != len(y):
        raise BadInput(f"x has {len(x)} rows and y has {len(y)}")
    ids = np.asarray(data[0]) if len(data) == 3 else np.arange(len(x))
    if len(ids) != len(x):
        raise BadInput(f"there are {len(ids)} ids for {len(x)} rows")
    return ids, x, y


def _skipped(batches: Iterable[Any], skip: int) -> Iterator[Any]:
    for number, batch in enumerate(batches):
        if number >= skip:
            yield batch
