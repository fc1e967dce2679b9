"""Row ids: checked, found again, drawn in a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np

from prunus.core.errors import BadInput, IdMismatch
from prunus.core.rng import torch_rng


def checked_ids(ids: Any, length: int) -> np.ndarray:
    """int64 or unicode `[length]`, unique.

    Raises:
        BadInput: wrong type or length, empty text, or duplicates, which are named.
    """
    array = np.asarray(ids)
    if array.dtype == object:
        if not all(isinstance(value, str) for value in array.reshape(-1)):
            odd = next(value for value in array.reshape(-1) if not isinstance(value, str))
            raise BadInput(f"ids must be whole numbers or text, without gaps; one of them is {odd!r}")
        array = array.astype(np.str_)
    if array.dtype.kind in "iu":
        array = array.astype(np.int64)
    elif array.dtype.kind != "U":
        raise BadInput(f"ids must be whole numbers or text, not {array.dtype}")
    if array.shape != (length,):
        raise BadInput(f"ids must be [{length}], one for each row, not {list(array.shape)}")
    refuse_duplicates(array)
    return array


def refuse_duplicates(ids: np.ndarray) -> None:
    """Raise BadInput naming ids that appear more than once."""
    ordered = np.sort(ids)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if again.size:
        raise BadInput(
            f"{again.size} ids appear more than once, such as {again[:5].tolist()}: ids must be unique; "
            "choose another id column, or leave it out to use file:row"
        )


def order_unless_sorted(ids: np.ndarray) -> np.ndarray | None:
    """Positions `[n]` in the order of the ids, or None where they lie in it already."""
    return None if bool((ids[1:] > ids[:-1]).all()) else np.argsort(ids, kind="stable")


def positions_of(ids: np.ndarray, wanted: Any, *, order: np.ndarray, name: str) -> np.ndarray:
    """int64 positions of `wanted` in `ids`, in the order wanted.

    Args:
        ids: `[n]`.
        wanted: ids to find.
        order: argsort of `ids`.
        name: of the dataset, for the message.

    Raises:
        IdMismatch: some are not there; the first are named.
    """
    wanted = np.asarray(wanted)
    if wanted.size == 0:
        return np.zeros(0, dtype=np.int64)
    if (wanted.dtype.kind == "U") != (ids.dtype.kind == "U") or wanted.dtype.kind not in "iuU":
        raise IdMismatch(
            f"ids of {name} are {ids.dtype} such as {ids[:1].tolist()}, "
            f"but {wanted.dtype} such as {wanted[:1].tolist()} was asked for"
        )
    place = np.minimum(np.searchsorted(ids, wanted, sorter=order), max(ids.size - 1, 0))
    positions = order[place] if ids.size else np.zeros(wanted.shape, dtype=np.int64)
    missing = wanted[ids[positions] != wanted] if ids.size else wanted
    if missing.size:
        raise IdMismatch(
            f"{missing.size} of {wanted.size} ids are not in {name} ({ids.size} rows), such as {missing[:5].tolist()}"
        )
    return positions


def shuffled(order: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Positions in a random order that depends on ids, seed and epoch, not on how the rows lie in their file.

    Args:
        order: positions in the order of their ids.
    """
    import torch

    drawn = torch.randperm(order.size, generator=torch_rng(seed, f"batches/{epoch}"))
    return order[drawn.numpy()]


def drawn(order: np.ndarray, weights: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """As many positions as there are rows, drawn with replacement in proportion to `weights` `[n]`."""
    import torch

    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != order.shape or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
        raise BadInput(
            f"weights must be [{order.size}], finite, not negative and not all zero; got {list(weights.shape)}"
        )
    edges = np.cumsum(weights[order])
    draws = torch.rand(order.size, generator=torch_rng(seed, f"draws/{epoch}"), dtype=torch.float64).numpy()
    return order[np.minimum(np.searchsorted(edges, draws * edges[-1], side="right"), order.size - 1)]
