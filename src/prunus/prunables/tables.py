"""Rows of a pyarrow, polars or pandas table, a list of dicts, or a Hugging Face dataset. All are read through Arrow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prunus.core.errors import require
from prunus.prunables import arrow
from prunus.prunables.items import stacked

Columns = dict[str, Any]


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
        return arrow.table_columns(self.table(positions, columns))

    def table(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Any:
        """These rows as an Arrow table."""
        table = self._table if columns is None else self._table.select(list(columns))
        return table.take(positions)

    def select(self, positions: np.ndarray) -> Table:
        kind = library(self._data)
        if kind == "polars":
            return Table(self._data[positions.tolist()])
        if kind == "pandas":
            return Table(self._data.iloc[positions])
        return Table(self._data.take(positions) if kind == "pyarrow" else [self._data[i] for i in positions.tolist()])

    def native(self) -> Any:
        return self._data

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        return table_digest(self._table, order)


def table_digest(table: Any, order: np.ndarray | None = None) -> str:
    """blake2b of an Arrow table's schema and cells, rows read in `order`; independent of its chunks."""
    pa = require("pyarrow", "data")
    digest = hashlib.blake2b(str(table.schema.remove_metadata()).encode(), digest_size=16)
    for start in range(0, table.num_rows, 65536):
        part = table.slice(start, 65536) if order is None else table.take(order[start : start + 65536])
        part = part.combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, part.schema.remove_metadata()) as writer:
            for batch in part.replace_schema_metadata(None).to_batches():
                writer.write_batch(
                    pa.RecordBatch.from_arrays([pa.concat_arrays([c]) for c in batch.columns], schema=batch.schema)
                )
        digest.update(sink.getvalue())
    return digest.hexdigest()


def library(data: Any) -> str:
    """The top package an object comes from."""
    return type(data).__module__.split(".")[0]


def is_table(data: Any) -> bool:
    """Whether `Table` can hold it."""
    if isinstance(data, list):
        return bool(data) and all(isinstance(row, Mapping) for row in data)
    return library(data) in ("polars", "pandas", "pyarrow") and hasattr(data, "columns")


def _to_arrow(data: Any) -> Any:
    pa = require("pyarrow", "data")
    kind = library(data)
    if kind == "polars":
        return data.to_arrow()
    if kind == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    if kind == "pyarrow":
        return data
    names = list(dict.fromkeys(name for row in data for name in row))  # from_pylist would look at the first row only
    return pa.table({name: [row.get(name) for row in data] for name in names})


class HuggingFace:
    """A `datasets.Dataset`. Read through Arrow (images arrive as bytes) unless the user set a format or transform."""

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
        if (self._data.format or {}).get("type") is None:
            found = arrow.table_columns(self.table(positions, columns))
            return {name: _with_bytes(values) for name, values in found.items()}
        data = self._data if columns is None else self._data.select_columns(list(columns))
        given = dict(data[positions.tolist()])
        return {name: values if hasattr(values, "shape") else stacked(list(values)) for name, values in given.items()}

    def table(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Any:
        """These rows as an Arrow table, past the user's own format."""
        data = self._data if columns is None else self._data.select_columns(list(columns))
        return data.with_format("arrow")[positions.tolist()]

    def select(self, positions: np.ndarray) -> HuggingFace:
        return HuggingFace(self._data.select(positions))

    def native(self) -> Any:
        return self._data

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
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
