"""Arrow columns to what models read: tensors for numbers, lists for text, bytes and nested values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from prunus.core.errors import UnknownName, require

if TYPE_CHECKING:
    import pyarrow as pa


def column_values(column: pa.ChunkedArray | pa.Array) -> Any:
    """One column as a tensor (numbers, nulls as NaN; lists of numbers of equal length) or a list (all else)."""
    import torch

    pa = require("pyarrow", "data")
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # newer versions keep chunks that can't be joined
        return array.to_pylist()
    kind = array.type
    if pa.types.is_dictionary(kind):
        return column_values(array.dictionary_decode())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        # A copy: torch must not be handed Arrow's read-only memory.
        return torch.from_numpy(_writable(array.to_numpy(zero_copy_only=False)))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _list_values(array)
    return array.to_pylist()


def _writable(array: np.ndarray) -> np.ndarray:
    if array.dtype == object:  # booleans with nulls
        array = np.array([np.nan if value is None else value for value in array], dtype=np.float64)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:  # torch computes with uint8 only
        array = array.astype(np.int64)
    return array if array.flags.writeable else array.copy()


def _list_values(array: Any) -> Any:
    import torch

    pa = require("pyarrow", "data")
    inner = array.type.value_type
    numeric = pa.types.is_integer(inner) or pa.types.is_floating(inner)
    if not numeric or array.null_count:
        return array.to_pylist()
    flat = array.flatten()
    lengths = (
        {array.type.list_size} if pa.types.is_fixed_size_list(array.type) else set(array.value_lengths().to_pylist())
    )
    if len(lengths) != 1 or flat.null_count:
        return [torch.tensor(values) for values in array.to_pylist()] if not flat.null_count else array.to_pylist()
    return torch.from_numpy(_writable(flat.to_numpy(zero_copy_only=False)).reshape(len(array), lengths.pop()))


def table_columns(table: pa.Table) -> dict[str, Any]:
    """Every column of a table by `column_values`."""
    return {name: column_values(table.column(name)) for name in table.column_names}


def plain(values: Any) -> np.ndarray:
    """A column as numpy: numbers as they are, text as unicode (None becomes NaN or raises for ids elsewhere)."""
    if hasattr(values, "numpy"):
        return values.numpy()
    if values and all(isinstance(value, str) for value in values):
        return np.array(values, dtype=np.str_)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def nested(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column by name; `img.path` reaches into a struct."""
    pc = require("pyarrow.compute", "data")
    if name in table.column_names:
        return table.column(name)
    first, _, rest = name.partition(".")
    if rest and first in table.column_names:
        return pc.struct_field(table.column(first), rest.split("."))
    raise UnknownName("column", name, table.column_names)


def class_names(metadata: dict[bytes, bytes] | None, column: str) -> tuple[str, ...] | None:
    """Class names that the Hugging Face layout stores in the schema, or None."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        feature = features[column]
        return tuple(feature["names"]) if feature.get("_type") == "ClassLabel" else None
    except (KeyError, ValueError, TypeError):
        return None


def typed_columns(metadata: dict[bytes, bytes] | None, kind: str) -> list[str]:
    """Columns that the Hugging Face layout declares of a type, such as Image or ClassLabel."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return [
            name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == kind
        ]
    except (KeyError, ValueError, TypeError, AttributeError):
        return []
