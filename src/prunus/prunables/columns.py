"""Which columns of a backing are inputs, labels, ids and class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prunus.core.errors import BadInput, UnknownName
from prunus.prunables.arrow import class_names
from prunus.prunables.backings import Backing
from prunus.prunables.rowids import checked_ids


def input_columns(
    backing: Backing, x: str | Sequence[str] | None, label: str | None, text: str | None
) -> tuple[tuple[str, ...], str | None]:
    """(columns that become x, the one that becomes y): those asked for, else x and y where there are such.

    Raises:
        UnknownName: a column asked for is not there.
    """
    known = backing.names()
    wanted = (x,) if isinstance(x, str) else tuple(x or ())
    for name in (*wanted, label, text):
        if name and known and name not in known:
            raise UnknownName("column", name, known)
    if not wanted and ("x" in known or not known):
        wanted = ("x",)
    return wanted, label or ("y" if "y" in known or not known else None)


def row_ids(backing: Backing, ids: Any, name: str) -> np.ndarray:
    """Ids from a column's name, an array, the file, or 0..n-1."""
    if isinstance(ids, str):
        found = backing.column(ids)
        if found is None:
            raise BadInput(f"{name} can't give column {ids!r} without reading every row: pass ids as an array")
        return checked_ids(found, len(backing))
    if ids is None:
        default = getattr(backing, "default_ids", None)
        return np.arange(len(backing), dtype=np.int64) if default is None else checked_ids(default(), len(backing))
    return checked_ids(ids, len(backing))


def declared_classes(backing: Backing, label: str | None) -> tuple[str, ...] | None:
    """Class names that the source declares, or None."""
    names = getattr(backing, "classes", None)
    if names is None and label:
        names = class_names(getattr(backing, "metadata", None), label)
    return tuple(names) if names is not None else None


def labels_by_reading(backing: Backing) -> np.ndarray | None:
    """Labels of a torch Dataset that does not carry them, by reading every row; None when rows have no single label."""
    parts: list[np.ndarray] = []
    for start in range(0, len(backing), 256):
        values = backing.rows(np.arange(start, min(start + 256, len(backing)))).get("y")
        if values is None or not hasattr(values, "numpy") or values.ndim != 1:
            return None
        parts.append(values.numpy())
    return np.concatenate(parts) if parts else None
