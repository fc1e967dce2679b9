"""Where the rows of a Dataset are: in arrays, a torch Dataset, a table, a Hugging Face dataset, a list of dicts.

A backing reads rows at positions, selects positions and gives back the kind of object it was made from. Files live in `sources`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from prunus.core.errors import BadInput, UnknownName, require
from prunus.prunables import arrow

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 24
Columns = dict[str, Any]


@runtime_checkable
class Backing(Protocol):
    """What a Dataset needs from the place its rows are in."""

    uncached: str | None
    """Why stored signals can't be keyed to these rows, or None."""

    def __len__(self) -> int: ...

    def names(self) -> list[str]:
        """Column names; [] when only reading a row could tell."""
        ...

    def column(self, name: str) -> np.ndarray | None:
        """One light column as numpy, or None when it can't be had without reading whole rows."""
        ...

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Columns:
        """Column -> tensor or list, rows in the order asked; `columns` says which are wanted, where that saves reading."""
        ...

    def select(self, positions: np.ndarray) -> Backing:
        """These rows only."""
        ...

    def native(self) -> Any:
        """The same kind of object as was given, or None when it was a path (the Dataset itself is then handed out)."""
        ...

    def digest(self, *, verify: bool) -> str:
        """Identity of the content, as text."""
        ...


def array_digest(array: Any) -> str:
    """blake2b of dtype, shape and content, read in chunks."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.view(dtype=_int_of(array)).numpy() if str(array.dtype) == "torch.bfloat16" else array.numpy()
    array = np.asarray(array)
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    if array.dtype == object:
        for value in array.reshape(-1):
            digest.update(repr(value).encode())
        return digest.hexdigest()
    rows = max(1, CHUNK // max(array[:1].nbytes, 1)) if array.ndim else 1
    for start in range(0, len(array) if array.ndim else 0, rows):
        digest.update(np.ascontiguousarray(array[start : start + rows]).tobytes())
    return digest.hexdigest()


def _int_of(_: Any) -> Any:
    import torch

    return torch.int16


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
        return Arrays({name: _kept(values, positions) for name, values in self._columns.items()}, self._form)

    def native(self) -> Any:
        if self._form == "one":
            return next(iter(self._columns.values()))
        return tuple(self._columns.values()) if self._form == "tuple" else dict(self._columns)

    def digest(self, *, verify: bool) -> str:
        return ";".join(f"{name}={array_digest(values)}" for name, values in sorted(self._columns.items()))


def _kept(values: Any, positions: np.ndarray) -> Any:
    if hasattr(values, "detach"):
        import torch

        return values[torch.from_numpy(positions).to(values.device)]
    if isinstance(values, np.ndarray):
        return values[positions]
    return type(values)(values[i] for i in positions.tolist())


def _picked(values: Any, positions: np.ndarray) -> torch.Tensor | list[Any]:
    import torch

    kept = _kept(values, positions)
    if isinstance(kept, np.ndarray) and kept.dtype.kind in "biuf":
        return torch.from_numpy(np.ascontiguousarray(kept))
    if isinstance(kept, np.ndarray):
        return kept.tolist()
    return kept


class Items:
    """A torch Dataset: rows exist only when asked for."""

    def __init__(self, data: Any) -> None:
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise BadInput(
                f"{type(data).__name__} has no length or no indexing; a stream can't be pruned by row: make it map-style"
            )
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

    def digest(self, *, verify: bool) -> str:
        if self._tensors is not None:
            return ";".join(array_digest(tensor) for tensor in self._tensors)
        targets = _targets(self._data)
        labels = "" if targets is None else array_digest(targets)
        return f"{type(self._data).__module__}.{type(self._data).__qualname__}:{len(self._data)}:{labels}"


def _is_tensors(data: Any) -> bool:
    from torch.utils.data import TensorDataset

    return type(data) is TensorDataset


def kept_rows(data: Any, positions: np.ndarray) -> Any:
    """A torch Subset that still answers `targets` and `classes`; a TensorDataset stays one."""
    from torch.utils.data import Subset, TensorDataset

    if isinstance(data, TensorDataset):
        return TensorDataset(*(_kept(tensor, positions) for tensor in data.tensors))
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


class Table:
    """A pyarrow, polars or pandas table, or a list of dicts."""

    uncached = None

    def __init__(self, data: Any) -> None:
        self._data = data
        self._table = _to_arrow(data)

    def __len__(self) -> int:
        return self._table.num_rows

    @property
    def metadata(self) -> dict[bytes, bytes] | None:
        """Schema metadata, where the Hugging Face layout keeps class names."""
        return self._table.schema.metadata

    def names(self) -> list[str]:
        return list(self._table.column_names)

    def column(self, name: str) -> np.ndarray | None:
        return arrow.plain(arrow.column_values(arrow.nested(self._table, name)))

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Columns:
        table = self._table if columns is None else self._table.select(list(columns))
        return arrow.table_columns(table.take(positions))

    def select(self, positions: np.ndarray) -> Table:
        kind = _library(self._data)
        if kind == "polars":
            return Table(self._data[positions.tolist()])
        if kind == "pandas":
            return Table(self._data.iloc[positions])
        return Table(self._data.take(positions) if kind == "pyarrow" else [self._data[i] for i in positions.tolist()])

    def native(self) -> Any:
        return self._data

    def digest(self, *, verify: bool) -> str:
        return table_digest(self._table)


def table_digest(table: Any) -> str:
    """blake2b of an Arrow table's schema and cells, independent of its chunks."""
    pa = require("pyarrow", "data")
    digest = hashlib.blake2b(str(table.schema.remove_metadata()).encode(), digest_size=16)
    for start in range(0, table.num_rows, 65536):
        part = table.slice(start, 65536).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, part.schema.remove_metadata()) as writer:
            for batch in part.replace_schema_metadata(None).to_batches():
                writer.write_batch(
                    pa.RecordBatch.from_arrays([pa.concat_arrays([c]) for c in batch.columns], schema=batch.schema)
                )
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _library(data: Any) -> str:
    return type(data).__module__.split(".")[0]


def is_table(data: Any) -> bool:
    """Whether `Table` can hold it."""
    if isinstance(data, list):
        return bool(data) and all(isinstance(row, Mapping) for row in data)
    return _library(data) in ("polars", "pandas", "pyarrow") and hasattr(data, "columns")


def _to_arrow(data: Any) -> Any:
    pa = require("pyarrow", "data")
    kind = _library(data)
    if kind == "polars":
        return data.to_arrow()
    if kind == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    return data if kind == "pyarrow" else pa.Table.from_pylist(data)


class HuggingFace:
    """A `datasets.Dataset`. Read through Arrow, so images arrive as bytes, unless the user set a format or transform of their own."""

    def __init__(self, data: Any) -> None:
        self._data = data
        custom = (data.format or {}).get("type") == "custom"
        self.uncached: str | None = "it has a set_transform function" if custom else None

    def __len__(self) -> int:
        return len(self._data)

    @property
    def metadata(self) -> dict[bytes, bytes] | None:
        """Schema metadata in the layout that parquet files of the hub carry."""
        return self._data.features.arrow_schema.metadata

    def names(self) -> list[str]:
        return list(self._data.column_names)

    def column(self, name: str) -> np.ndarray | None:
        table = self._data.with_format("arrow").select_columns([name.partition(".")[0]])[:] if name else None
        return arrow.plain(arrow.column_values(arrow.nested(table, name)))

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Columns:
        data = self._data if columns is None else self._data.select_columns(list(columns))
        if (data.format or {}).get("type") is None:
            found = arrow.table_columns(data.with_format("arrow")[positions.tolist()])
            return {name: _with_bytes(values) for name, values in found.items()}
        found = data[positions.tolist()]
        return {
            name: stacked(list(values)) if not hasattr(values, "shape") else values
            for name, values in dict(found).items()
        }

    def select(self, positions: np.ndarray) -> HuggingFace:
        return HuggingFace(self._data.select(positions))

    def native(self) -> Any:
        return self._data

    def digest(self, *, verify: bool) -> str:
        return f"datasets:{self._data._fingerprint}"


def _with_bytes(values: Any) -> Any:
    """Image cells that hold only a path get their bytes; the paths are the user's own dataset object's."""
    if (
        not isinstance(values, list)
        or not values
        or not isinstance(values[0], dict)
        or set(values[0]) != {"bytes", "path"}
    ):
        return values
    filled: list[dict[str, Any]] = []
    for cell in values:
        if cell["bytes"] is None and cell["path"]:
            with require("fsspec", "data").open(cell["path"], "rb") as file:
                cell = {**cell, "bytes": file.read()}
        filled.append(cell)
    return filled


def backing_of(data: Any) -> Backing:
    """The backing for whatever the user has."""
    if isinstance(data, Backing) and hasattr(data, "digest"):
        return data
    if isinstance(data, Mapping):
        if _library(data) == "datasets":
            raise BadInput(f"this is a DatasetDict with splits {sorted(data)}: give one of them")
        return Arrays(dict(data), "dict")
    if isinstance(data, tuple) and len(data) in (1, 2) and all(hasattr(part, "__len__") for part in data):
        return Arrays(dict(zip(("x", "y"), data)), "tuple")
    if _library(data) == "datasets" and hasattr(data, "column_names"):
        return HuggingFace(data)
    if is_table(data):
        return Table(data)
    if isinstance(data, np.ndarray) or type(data).__module__ == "torch":
        return Arrays({"x": data}, "one")
    if isinstance(data, (str, bytes)) or hasattr(data, "__fspath__"):
        raise BadInput(f"{data!r} is a path: open it with prunus.sources.open.open_data")
    return Items(data)
