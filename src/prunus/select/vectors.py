"""What selectors over feature vectors share: one vector for each unit, checked, in the order of the ids.

Working in the order of the ids makes a selection follow its units when their order changes, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput
from prunus.core.score import GroupScore, check_finite, check_finite_rows
from prunus.maths.certified import power_of_two, squared_norms
from prunus.select.by_label import by_label, check_count, part

if TYPE_CHECKING:
    from prunus.select.by_label import Positions

MAX_RAM = 2 << 30
"""Bytes a selector may take for similarities unless told otherwise."""
Start = tuple[int | str, ...]


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of n units, sorted by id.

    Attributes:
        x: float32 or float64 `[n, d]`, finite.
        ids: `[n]`, ascending.
        order: int64 `[n]`, the position of each in the score.
    """

    x: NDArray[np.floating]
    ids: np.ndarray
    order: Positions

    def directions(self, what: str) -> NDArray[np.float64]:
        """Vectors of length 1, float64 `[n, d]`; `what` needs them.

        Raises:
            BadInput: a vector is zero and has no direction; names the ids.
        """
        rows = self.x.astype(np.float64)  # a copy, also of float64: it is divided in place
        norms = np.sqrt(squared_norms(rows))
        if (norms == 0).any():
            raise BadInput(
                f"{what} compares directions, and {int((norms == 0).sum())} embeddings are zero, such as ids "
                f"{self.ids[norms == 0][:5].tolist()}: ban these ids, or record the embedding before the activation"
            )
        rows /= norms[:, None]
        return rows

    def places(self, start: Start, count: int) -> Positions:
        """Where the units that are kept first are among these (see `places`)."""
        return places(self.ids, start, count)


def places(ids: np.ndarray, start: Start, count: int) -> Positions:
    """Where the units named by `start` are among sorted ids, int64 `[s]`; those of another class are not looked for.

    Raises:
        BadInput: more of them than `count`.
    """
    wanted = np.asarray(start, dtype=ids.dtype) if start else ids[:0]
    at = np.searchsorted(ids, wanted).clip(max=ids.size - 1)
    here = at[ids[at] == wanted]
    if here.size > count:
        raise BadInput(f"start names {here.size} units where {count} are kept: name fewer or raise the budget")
    return here.astype(np.int64)


def field_of(score: GroupScore, name: str) -> np.ndarray:
    """A signal of the units, as an array with n rows.

    Raises:
        BadInput: it did not come with the score.
    """
    found = getattr(score.signals, name, None)
    if found is None:
        raise BadInput(
            f"this selector reads {name}, which did not come with the score of {score.name or 'the group'}: record it "
            f"(prunus signals --need {name}) and give these signals when scoring"
        )
    found = np.asarray(found)
    if found.shape[:1] != score.ids.shape:
        raise BadInput(f"{name} has shape {list(found.shape)}, but there are {score.ids.size} units")
    return found


def checked_rows(name: str, x: np.ndarray, ids: np.ndarray) -> NDArray[np.floating]:
    """A signal with one finite vector in each row, float32 or float64 `[n, d]`, brought to a usable scale.

    Raises:
        BadInput: of another shape.
        NonFinite: NaN or infinity; names the ids.
    """
    if x.ndim != 2 or x.shape[1] == 0:
        raise BadInput(f"{name} must be one vector for each unit, [n, d], not {list(x.shape)}")
    x = x if x.dtype == np.float32 or x.dtype == np.float64 else x.astype(np.float64)
    check_finite_rows(name, x, ids)
    scale = power_of_two(x)
    return x if scale == 1 else x * x.dtype.type(scale)


def in_order(x: NDArray[Any], order: Positions) -> NDArray[Any]:
    """The rows in another order; themselves, not a copy, where it is their own (a memory map stays one)."""
    return x if np.array_equal(order, np.arange(x.shape[0])) else x[order]


def vectors(score: GroupScore, name: str = "embedding") -> Vectors:
    """The vectors of a score's units, sorted by id.

    Args:
        score: with the signal among its signals.
        name: of the signal, `[n, d]`.

    Raises:
        BadInput: it is not there, or of another shape.
        NonFinite: a vector holds NaN or infinity.
    """
    order = np.argsort(score.ids, kind="stable")
    ids = score.ids[order]
    return Vectors(checked_rows(name, in_order(field_of(score, name), order), ids), ids, order)


def choose(
    score: GroupScore,
    count: int,
    within: Literal["all", "class"],
    start: Start,
    select: Callable[[GroupScore, int], Positions],
    check: Callable[[GroupScore], object] | None = None,
) -> Positions:
    """Check the request, then select among all units or inside every label.

    Args:
        score: the whole group.
        count: units kept altogether.
        within: all, or class for the same share of every label.
        start: ids of units that are kept first.
        select: (some units, how many) -> positions among them.
        check: refuses signals that can't be used, also those of a label that keeps nothing; `vectors` by default.

    Returns:
        int64 `[count]` positions, in the order of picking (inside each label).

    Raises:
        BadInput: an impossible count, or an unknown id in `start`.
        NonFinite: a score is NaN or infinite.
    """
    check_count(score, count)
    check_finite(score.name, score.values, score.ids)
    if within == "class" or not count:  # else the selector itself checks all units
        (check or vectors)(score)
    known = set(score.ids.tolist()) if start else set[int | str]()
    unknown = [one for one in start if one not in known]
    if unknown or len(set(start)) < len(start):
        raise BadInput(f"start must name different units of the score, not {(unknown or list(start))[:5]}")

    def one(piece: GroupScore, few: int) -> Positions:
        return select(piece, few) if few else np.zeros(0, dtype=np.int64)

    if within == "class":
        return by_label(score, count, lambda positions, few: one(part(score, positions), few))
    return one(score, count)
