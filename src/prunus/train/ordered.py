"""Batches in the order of the data, each row once: for everything that measures and does not train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from prunus.core.errors import BadInput


def ordered(data: Any, batch: int) -> Iterator[Any]:
    """Batches of any data that `fit` takes.

    Args:
        data: `(x, y)` or `(ids, x, y)` arrays; anything with `batches(batch)`; a map-style dataset; an iterable of ready
            batches (those keep their size).
        batch: rows in a batch.

    Yields:
        `(ids, x, y)`, dicts, or what the data give.
    """
    if batch < 1:
        raise BadInput(f"batch must be 1 or more, not {batch}")
    if isinstance(data, tuple) and len(data) in (2, 3):
        yield from _slices(data, batch)
    elif (batches := getattr(data, "batches", None)) is not None:
        yield from batches(batch)
    elif hasattr(data, "__getitem__") and not isinstance(data, list):
        yield from _collated(data, batch)
    else:
        yield from data


def _slices(data: tuple[Any, ...], batch: int) -> Iterator[Any]:
    x, y = (None if part is None else torch.as_tensor(part) for part in data[-2:])
    if x is None or (y is not None and len(x) != len(y)):
        raise BadInput(f"x has {0 if x is None else len(x)} rows and y has {0 if y is None else len(y)}")
    ids = np.asarray(data[0]) if len(data) == 3 else np.arange(len(x))
    for start in range(0, len(x), batch):
        rows = slice(start, start + batch)
        yield ids[rows], x[rows], None if y is None else y[rows]


def _collated(data: Any, batch: int) -> Iterator[Any]:
    ids = getattr(data, "ids", None)
    ids = np.arange(len(data)) if ids is None else np.asarray(ids)
    for start in range(0, len(data), batch):
        rows = range(start, min(start + batch, len(data)))
        found = torch.utils.data.default_collate([data[row] for row in rows])
        part = ids[start : start + batch]
        if isinstance(found, Mapping):
            yield {"ids": part, **found}
        else:
            yield (part, *found) if len(found) == 2 else found
