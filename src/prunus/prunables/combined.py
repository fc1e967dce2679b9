"""Rows of images packed several to one: what "prune, combine, augment" (2025) stores of the images that a plan keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.rng import uniform
from prunus.core.score import Score
from prunus.prunables.arrays import Arrays
from prunus.prunables.dataset import Dataset
from prunus.prunables.rowids import positions_of
from prunus.train.tiles import tiled

BLOCK = 1024  # images made at once


def combine(data: Dataset | Any, *, factor: int = 2, score: Score | None = None) -> Dataset:
    """Pack each `factor ** 2` images of a class into one image of the same size: that much less is stored.

    Args:
        data: labelled images, arrays `[n, c, h, w]` or image files; usually those that a plan keeps.
        factor: tiles across and down.
        score: of at least these rows: images of a class are taken from the easiest to the hardest (or, for a keep
            score, from the one to keep first). Without one, in an order drawn by their ids.

    Returns:
        Rows that go by the id of their first image, class by class; uint8 where the images are files or uint8, rounded
        half to even. A class whose images fill no whole number of tiles has its first ones repeated in the last image.
        Loss weights are the means of those of the images.

    Raises:
        BadInput: no labels, or rows that are no images of one size.
        IdMismatch: rows without a score.
    """
    data = data if isinstance(data, Dataset) else Dataset(data)
    if data.labels is None or data.labels.ndim != 1 or data.labels.dtype.kind not in "iu":
        raise BadInput(f"images are combined in a class, and {data.name} has no class labels: pass label= or labels=")
    together = factor**2
    rows = _grouped(data, _ranks(data, score), together)
    held = data.cache() if data.preprocess is not None else data
    images = _images(held)
    blocks = np.split(rows, np.arange(BLOCK * together, rows.size, BLOCK * together))
    packed = torch.cat([tiled(images[torch.from_numpy(block)].float(), factor) for block in blocks])
    first = rows[::together]
    made = Dataset(
        ((packed.round().to(torch.uint8) if images.dtype == torch.uint8 else packed).numpy(), data.labels[first]),
        ids=data.ids[first], role=data.role, classes=data.classes, preprocess=held.preprocess, name=data.name,
        transform=data.transform,
    )  # fmt: skip
    if data.loss_weights is not None:
        made.loss_weights = data.loss_weights[rows].reshape(-1, together).mean(1)
    return made


def _ranks(data: Dataset, score: Score | None) -> np.ndarray:
    """float64 `[n]`: what comes first has the smallest."""
    if score is None:
        return uniform(0, "combine", data.ids)
    group = score.group("rows")
    rank = np.empty(group.ids.size)
    rank[group.keep_order("easy")] = np.arange(group.ids.size)
    order = np.argsort(group.ids, kind="stable")
    return rank[positions_of(group.ids, data.ids, order=order, name="the score")]


def _grouped(data: Dataset, ranks: np.ndarray, together: int) -> np.ndarray:
    """int64 positions, each `together` of them one image, class by class and by rank; ties by id."""
    assert data.labels is not None
    order = np.lexsort((data.ids, ranks, data.labels))
    starts = np.flatnonzero(np.diff(data.labels[order], prepend=data.labels[order][:1] - 1))
    classes = np.split(order, starts[1:])
    return np.concatenate([np.resize(one, -(-one.size // together) * together) for one in classes])


def _images(data: Dataset) -> Tensor:
    """All images `[n, c, h, w]`: pixels as they were decoded, or the arrays themselves."""
    column = data.backing.column(data.inputs[0]) if isinstance(data.backing, Arrays) and len(data.inputs) == 1 else None
    if column is None or column.ndim != 4:
        shape = "no arrays" if column is None else list(column.shape)
        raise BadInput(f"combining needs images [n, channels, height, width] of one size; {data.name} gives {shape}")
    return torch.from_numpy(np.ascontiguousarray(column))
