"""Rows in numpy arrays, torch tensors or lists of equal length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.core.errors import BadInput, UnknownName
from prunus.core.fingerprint import fingerprint_array

if TYPE_CHECKING:
    import torch

Columns = dict[str, Any]


def array_digest(array: Any, order: np.ndarray | None = None) -> str:
    """Content hash of numbers or text, rows read in `order`; torch's bfloat16 counts by its bits."""
    if hasattr(array, "detach"):
        import torch

        array = array.detach().cpu()
        array = (array.view(torch.int16) if array.dtype == torch.bfloat16 else array).numpy()
    array = np.asarray(array)
    if array.dtype == object:
        array = np.array([repr(value) for value in array.reshape(-1)], dtype=np.str_)
    return fingerprint_array(array, order)


class Arrays:
    """numpy arrays or torch tensors of equal length."""

    uncached = None

    def __init__(self, columns: Mapping[str, Any], form: str = "dict") -> None:
        lengths = {name: len(values) for name, values in columns.items() if values is not None}
        if len(set(lengths.values())) != 1:
            raise BadInput(f"arrays must have one length, got {lengths or 'none'}")
        self._columns = {name: values for name, values in columns.items() if values is not None}
        self._form = form
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def names(self) -> list[str]:
        return list(self._columns)

    def column(self, name: str) -> np.ndarray | None:
        if name not in self._columns:
            raise UnknownName("column", name, self._columns)
        values = self._columns[name]
        return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Columns:
        wanted = self._columns if columns is None else {name: self._columns[name] for name in columns}
        return {name: _picked(values, positions) for name, values in wanted.items()}

    def select(self, positions: np.ndarray) -> Arrays:
        return Arrays({name: kept(values, positions) for name, values in self._columns.items()}, self._form)

    def native(self) -> Any:
        if self._form == "one":
            return next(iter(self._columns.values()))
        return tuple(self._columns.values()) if self._form == "tuple" else dict(self._columns)

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        return ";".join(f"{name}={array_digest(values, order)}" for name, values in sorted(self._columns.items()))


def kept(values: Any, positions: np.ndarray) -> Any:
    """These rows of an array, tensor, list or tuple, as the same kind."""
    if hasattr(values, "detach"):
        import torch

        return values[torch.from_numpy(positions).to(values.device)]
    if isinstance(values, np.ndarray):
        return values[positions]
    return type(values)(values[i] for i in positions.tolist())


def _picked(values: Any, positions: np.ndarray) -> torch.Tensor | list[Any]:
    import torch

    chosen = kept(values, positions)
    if isinstance(chosen, np.ndarray) and chosen.dtype.kind in "biuf":
        return torch.from_numpy(np.ascontiguousarray(chosen))
    return chosen.tolist() if isinstance(chosen, np.ndarray) else chosen
