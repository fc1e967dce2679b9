"""Labels as numbers: text is numbered by the sorted names of its classes, or by names given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prunus.core.errors import BadInput


def encoded(
    labels: Any, classes: Sequence[str] | None, *, ids: np.ndarray, name: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """(int64 or float `[n]`, class names or None).

    Args:
        labels: numbers or text, `[n]`; `[n, k]` passes through.
        classes: names by number; text that is not among them is refused.
        ids: for messages.
        name: of the dataset.
    """
    array = labels.detach().cpu().numpy() if hasattr(labels, "detach") else np.asarray(labels)
    given = tuple(classes) if classes is not None else None
    if array.dtype.kind in "biu":
        return array.astype(np.int64), given
    if array.dtype.kind == "f":
        return _whole(array, given is not None, ids, name), given
    missing = np.array([not isinstance(value, str) for value in array.reshape(-1)], dtype=bool)
    if missing.any():
        first = ids[np.flatnonzero(missing)[:5]].tolist()
        raise BadInput(f"{int(missing.sum())} rows of {name} have no usable label, such as {first}")
    text = array.astype(np.str_)
    names = given if given is not None else tuple(np.unique(text).tolist())
    number = {label: place for place, label in enumerate(names)}
    unknown = sorted(set(np.unique(text).tolist()) - set(names))
    if unknown:
        raise BadInput(f"labels {unknown[:5]} of {name} are not among the classes {list(names)[:10]}")
    return np.array([number[value] for value in text.tolist()], dtype=np.int64), names


def _whole(array: np.ndarray, classed: bool, ids: np.ndarray, name: str) -> np.ndarray:
    """Floats stay floats (regression), but class numbers that became floats through gaps are refused."""
    bad = ~np.isfinite(array)
    if bad.any():
        flat = np.flatnonzero(bad.reshape(len(array), -1).any(1))[:5]
        raise BadInput(f"{int(bad.sum())} labels of {name} are missing or not finite, at ids {ids[flat].tolist()}")
    return array.astype(np.int64) if classed and (array == np.floor(array)).all() else array.astype(np.float32)
