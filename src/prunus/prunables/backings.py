"""Where the rows of a Dataset are: the protocol, and the choice of a backing for what the user has.

A backing reads rows at positions, selects positions and gives back the kind of object it was made from.
Backings over objects in memory are here; those over files are in `sources`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from prunus.core.errors import BadInput
from prunus.prunables.arrays import Arrays
from prunus.prunables.items import Items
from prunus.prunables.tables import HuggingFace, Table, is_table, library

Columns = dict[str, Any]


@runtime_checkable
class Backing(Protocol):
    """What a Dataset needs from the place its rows are in."""

    @property
    def uncached(self) -> str | None:
        """Why stored signals can't be keyed to these rows, or None."""
        ...

    def __len__(self) -> int: ...

    def names(self) -> list[str]:
        """Column names; [] when only reading a row could tell."""
        ...

    def column(self, name: str) -> np.ndarray | None:
        """One light column as numpy, or None when it can't be had without reading whole rows."""
        ...

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Columns:
        """Column -> tensor or list, rows in the order asked; `columns`: those wanted, where that saves reading."""
        ...

    def select(self, positions: np.ndarray) -> Backing:
        """These rows only."""
        ...

    def native(self) -> Any:
        """The same kind of object as was given, or None when it was a path (the Dataset itself is then handed out)."""
        ...

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        """Identity of the content, as text.

        Args:
            verify: files: hash their contents.
            order: positions in the order of the ids, or None where the rows lie so: rows in memory are read in it, so
                that a permutation is the same data. A file that was written in another order is another file.
        """
        ...


def is_array(data: Any) -> bool:
    """Whether it is one numpy array or torch tensor."""
    return isinstance(data, np.ndarray) or hasattr(data, "detach")


def backing_of(data: Any) -> Backing:
    """The backing for whatever the user has."""
    if isinstance(data, Backing) and hasattr(data, "digest"):
        return data
    if isinstance(data, Mapping):
        if library(data) == "datasets":
            raise BadInput(f"this is a DatasetDict with splits {sorted(data)}: give one of them")
        return Arrays(dict(data), "dict")
    if isinstance(data, tuple) and len(data) in (1, 2) and all(hasattr(part, "__len__") for part in data):
        return Arrays(dict(zip(("x", "y"), data)), "tuple")
    if library(data) == "datasets" and hasattr(data, "column_names"):
        return HuggingFace(data)
    if is_table(data):
        return Table(data)
    if is_array(data):
        return Arrays({"x": data}, "one")
    if isinstance(data, (str, bytes)) or hasattr(data, "__fspath__"):
        raise BadInput(f"{data!r} is a path: open it with prunus.sources.open.open_data")
    return Items(data)
