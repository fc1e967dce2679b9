"""Rows of a torch Dataset, which exist only when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.core.errors import BadInput
from prunus.prunables.arrays import array_digest, kept

if TYPE_CHECKING:
    import torch

Columns = dict[str, Any]


class Items:
    """A torch Dataset: rows exist only when asked for."""

    def __init__(self, data: Any) -> None:
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise BadInput(f"{type(data).__name__} has no length or no indexing: a stream can't be pruned by row")
        self._data = data
        self._tensors: tuple[Any, ...] | None = data.tensors if _is_tensors(data) else None
        unknown = (
            None
            if self._tensors is not None
            else f"the content of {type(data).__qualname__} is known only by running it; pass content_id="
        )
        self.uncached: str | None = unknown

    def __len__(self) -> int:
        return len(self._data)

    def names(self) -> list[str]:
        return []

    def column(self, name: str) -> np.ndarray | None:
        return _targets(self._data) if name == "y" else None

    def row(self, position: int) -> Any:
        """The item as the dataset gives it."""
        return self._data[position]

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Columns:
        places = positions.tolist()
        many = getattr(self._data, "__getitems__", None)
        items = many(places) if many is not None else [self._data[place] for place in places]
        return _collated(items)

    def select(self, positions: np.ndarray) -> Items:
        return Items(kept_rows(self._data, positions))

    def native(self) -> Any:
        return self._data

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        if self._tensors is not None:
            return ";".join(array_digest(tensor, order) for tensor in self._tensors)
        targets = _targets(self._data)
        labels = "" if targets is None else array_digest(targets, order)
        return f"{type(self._data).__module__}.{type(self._data).__qualname__}:{len(self._data)}:{labels}"


def _is_tensors(data: Any) -> bool:
    from torch.utils.data import TensorDataset

    return type(data) is TensorDataset


def kept_rows(data: Any, positions: np.ndarray) -> Any:
    """A torch Subset that still answers `targets` and `classes`; a TensorDataset stays one."""
    from torch.utils.data import Subset, TensorDataset

    if isinstance(data, TensorDataset):
        return TensorDataset(*(kept(tensor, positions) for tensor in data.tensors))
    subset = Subset(data, positions.tolist())
    targets = _targets(data)
    if targets is not None:
        subset.targets = targets[positions].tolist()  # type: ignore[attr-defined]
    if hasattr(data, "classes"):
        subset.classes = data.classes  # type: ignore[attr-defined]
    return subset


def _targets(data: Any) -> np.ndarray | None:
    """Labels that a torch Dataset carries openly, or None."""
    from torch.utils.data import ConcatDataset, Subset, TensorDataset

    for name in ("targets", "labels"):
        found = getattr(data, name, None)
        if found is not None and not callable(found) and len(found) == len(data):
            array = np.asarray(found)
            return array if array.ndim == 1 and array.dtype.kind in "iufU" else None
    if isinstance(data, TensorDataset) and len(data.tensors) == 2 and data.tensors[1].ndim == 1:
        return data.tensors[1].cpu().numpy()
    if isinstance(data, Subset):
        inner = _targets(data.dataset)
        return None if inner is None else inner[np.asarray(data.indices, dtype=np.int64)]
    if isinstance(data, ConcatDataset):
        parts = [_targets(part) for part in data.datasets]
        return None if any(part is None for part in parts) else np.concatenate([p for p in parts if p is not None])
    return None


def _collated(items: list[Any]) -> Columns:
    """Items to columns: (x, y) and x become x, y; dicts keep their keys; longer tuples are numbered."""
    first = items[0]
    if isinstance(first, Mapping):
        return {str(key): stacked([item[key] for item in items]) for key in first}
    if isinstance(first, (tuple, list)):
        names = (
            ("x", "y") if len(first) == 2 else ("x",) if len(first) == 1 else tuple(str(i) for i in range(len(first)))
        )
        return {name: stacked([item[place] for item in items]) for place, name in enumerate(names)}
    return {"x": stacked(items)}


def stacked(values: list[Any]) -> torch.Tensor | list[Any]:
    """One tensor where shapes and types agree, else the list (images of several sizes, detection targets, text)."""
    import torch

    first = values[0]
    if isinstance(first, (bool, int, float, np.number, np.bool_)):
        return torch.tensor(np.asarray(values))
    if isinstance(first, np.ndarray) and first.dtype.kind in "biuf":
        values = [torch.from_numpy(np.ascontiguousarray(value)) for value in values]
        first = values[0]
    if isinstance(first, torch.Tensor) and all(value.shape == first.shape for value in values):
        return torch.stack(values)
    return values
