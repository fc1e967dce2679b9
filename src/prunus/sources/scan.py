"""Which rows can't be read, and why: every image decoded, every line parsed, every row group opened. Streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prunus.core.errors import CorruptFile
from prunus.prunables.backings import Backing
from prunus.prunables.images import Preprocess, Unreadable, is_image

Progress = Callable[[int, int], None]
BLOCK = 512


def broken_rows(
    backing: Backing, images: Sequence[str] | None = None, *, progress: Progress | None = None
) -> dict[int, str]:
    """Position -> reason, for every row that can't be read.

    Args:
        backing: where the rows are.
        images: columns to decode; None decodes every column whose cells look like images.
        progress: called with (rows done, rows).
    """
    structural = getattr(backing, "broken", None)
    found: dict[int, str] = dict(structural()) if structural is not None else {}
    good = np.setdiff1d(np.arange(len(backing)), np.array(sorted(found), dtype=np.int64))
    for start in range(0, len(good), BLOCK):
        places = good[start : start + BLOCK]
        found |= _broken_images(backing, places, images)
        if progress is not None:
            progress(start + len(places), len(good))
    return dict(sorted(found.items()))


def _broken_images(backing: Backing, places: np.ndarray, images: Sequence[str] | None) -> dict[int, str]:
    try:
        rows = backing.rows(places, images)
    except CorruptFile as error:
        if len(places) == 1:
            return {int(places[0]): str(error)}
        return {place: why for one in places for place, why in _broken_images(backing, np.array([one]), images).items()}
    found: dict[int, str] = {}
    for name, values in rows.items():
        found |= _broken_cells(name, values, places, certain=images is not None)
    return found


def _broken_cells(name: str, values: Any, places: np.ndarray, *, certain: bool) -> dict[int, str]:
    if not isinstance(values, list) or not values:
        return {}
    first = next((value for value in values if value is not None), None)
    if not certain and not (isinstance(first, dict) and set(first) == {"bytes", "path"}):
        return {}
    if first is not None and not is_image(first):
        return {}
    found: dict[int, str] = {}
    for place, value in zip(places.tolist(), values):
        try:
            Preprocess().pixels(value)
        except Unreadable as error:
            found[place] = f"{name}: {error}"
    return found
