"""Exact selection without a full sort. Ties: the lower index goes first, as a stable ascending sort has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from prunus.core.errors import BadInput

BITS = 12
"""Width of one radix digit: 4096 counters for each group, three passes over float32."""


def keep_largest(values: np.ndarray, count: int | np.ndarray) -> np.ndarray:
    """Mark the `count` largest of every line; of equal values the later ones stay.

    Args:
        values: `[lines, n]`, finite.
        count: how many to mark in each line, one number for all or int `[lines]`.

    Returns:
        bool `[lines, n]`.
    """
    lines, n = values.shape
    counts = np.broadcast_to(np.asarray(count, dtype=np.int64), (lines,))
    if lines and not 0 <= counts.min() <= counts.max() <= n:
        raise BadInput(f"can't keep {counts.min()}..{counts.max()} of {n} values")
    mask = np.zeros(values.shape, dtype=bool)
    for number in np.unique(counts):
        rows = slice(None) if lines == 1 or (counts == number).all() else np.flatnonzero(counts == number)
        mask[rows] = _keep_equal(values[rows], int(number))
    return mask


def _keep_equal(values: np.ndarray, count: int) -> np.ndarray:
    """`keep_largest` with one count for all lines."""
    n = values.shape[1]
    if count in (0, n):
        return np.full(values.shape, count == n)
    cut = np.partition(values, n - count, axis=1)[:, n - count, None]
    mask = values >= cut
    surplus = mask.sum(1) - count
    for line in np.flatnonzero(surplus):
        mask[line, np.flatnonzero(values[line] == cut[line])[: surplus[line]]] = False
    return mask


def keep_largest_of_few(values: np.ndarray, count: int) -> np.ndarray:
    """`keep_largest` for very many short lines: counts, for every entry, how many of its line are larger.

    Args:
        values: `[lines, m]`, m up to about 16.
        count: how many to mark in each line.

    Returns:
        bool `[lines, m]`.
    """
    m = values.shape[1]
    columns = np.ascontiguousarray(values.T)
    larger = np.zeros(columns.shape, dtype=np.uint8)
    for low in range(m):
        for high in range(low + 1, m):
            wins = columns[high] >= columns[low]
            larger[low] += wins
            larger[high] += ~wins
    return (larger < count).T


def sortable(values: np.ndarray) -> np.ndarray:
    """Unsigned integers in the order of the finite floats `values` (float32 -> uint32, float64 -> uint64); -0 equals
    0."""
    kind = {4: (np.int32, np.uint32), 8: (np.int64, np.uint64)}.get(values.dtype.itemsize)
    if values.dtype.kind != "f" or kind is None:
        raise BadInput(f"scores are float32 or float64, not {values.dtype}")
    width = 8 * values.dtype.itemsize - 1
    signed = (values + values.dtype.type(0)).view(kind[0])
    flip = (signed >> width).view(kind[1])  # all ones below zero: negative floats are ordered backwards
    flip |= kind[1](1) << kind[1](width)
    flip ^= signed.view(kind[1])
    return flip


def pooled_counts(chunks: Callable[[], Iterator[np.ndarray]], total: int, floors: np.ndarray) -> np.ndarray:
    """How many of each group the `total` largest values of all groups are, each group keeping at least its floor.

    The cut is found by counting radix digits, so no copy of all values is ever held: one group at a time passes by, in
    3 passes for float32 and 6 for float64. Ties at the cut: later values stay.

    Args:
        chunks: gives the groups' values, in the same order each time it is called.
        total: how many to keep, at least the sum of the floors.
        floors: int `[groups]`, at most the sizes.

    Returns:
        int64 `[groups]`, summing to `total`.
    """
    above = np.zeros(len(floors), dtype=np.int64)
    at_cut = np.zeros_like(above)
    prefix, shift = 0, None
    while shift is None or shift > 0:
        digits, shift = _digit_counts(chunks, prefix, shift)
        running = above[:, None] + digits[:, ::-1].cumsum(1)
        kept = np.maximum(running, floors[:, None]).sum(0)
        place = min(int(np.searchsorted(kept, total)), digits.shape[1] - 1)
        digit = digits.shape[1] - 1 - place
        above = running[:, place] - digits[:, digit]
        at_cut = digits[:, digit]
        prefix = (prefix << (digits.shape[1].bit_length() - 1)) | digit
    counts = np.maximum(above, floors)
    room = above + at_cut - counts
    return counts + _from_the_end(np.maximum(room, 0), total - int(counts.sum()))


def _digit_counts(chunks: Callable[[], Iterator[np.ndarray]], prefix: int, shift: int | None) -> tuple[np.ndarray, int]:
    """For each group, how many values that start with `prefix` have each next digit; and the next shift."""
    found: list[np.ndarray] = []
    after = 0
    for values in chunks():
        keys = sortable(values.reshape(-1))
        kind = keys.dtype.type
        width = 8 * keys.dtype.itemsize if shift is None else shift
        after = max(width - BITS, 0)
        if shift is not None:
            keys = keys[keys >> kind(shift) == kind(prefix)]
        digits = (keys >> kind(after)) & kind((1 << (width - after)) - 1)
        found.append(np.bincount(digits.astype(np.intp), minlength=1 << (width - after)))
    return np.stack(found), after


def _from_the_end(room: np.ndarray, missing: int) -> np.ndarray:
    """Hand out `missing` places to the last groups first."""
    before = room[::-1].cumsum() - room[::-1]
    return np.clip(missing - before, 0, room[::-1])[::-1]
