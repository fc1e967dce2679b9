"""Row signals from tables of predictions: parquet, npz, npy, jsonl, csv. The columns' names say what they are, or you do."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, CorruptFile, UnknownName, require
from prunus.signals import shards
from prunus.signals.rowset import Signals

BATCH = 65_536
"""Rows of a table read at a time."""
ALIASES = {
    "id": "ids",
    "label": "labels",
    "target": "labels",
    "prob": "probs",
    "probabilities": "probs",
    "logit": "logits",
    "held_out_prob": "held_out_probs",
}
NUMBERED = re.compile(r"^(held_out_probs?|probs?|logits?|embedding)[_.]?(\d+)$")


def read(path: str | Path, *, quarantine: bool = False, **columns: str | Sequence[str]) -> Signals:
    """Signals from a table with one line per row.

    Args:
        path: `.parquet`, `.npz`, `.jsonl` or `.csv`; or `embedding.npy`, one signal called by its name, which stays on
            disk as a memory map, with the ids in `ids.npy` beside it.
        quarantine: take rows that are not finite as they are (see Signals.with_bad_rows).
        columns: signal = column, or a list of columns that make its entries: `ids="file", probs=["p_cat", "p_dog"]`.
            Columns that are not named are taken when they are called like a signal (`id`, `label`, `probs`, `loss`,
            `embedding`, ...) or numbered (`prob_0`, `prob_1`, ...). `id=` and `label=` are accepted.

    Raises:
        CorruptFile: not readable as what its suffix says.
        UnknownName: a named column is not there.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    return _signals(_table(path), columns, path.name, quarantine=quarantine)


def convert(path: str | Path, out: str | Path, *, quarantine: bool = False, **columns: str | Sequence[str]) -> Signals:
    """Signals from a parquet table, row group by row group into shards, opened through memory maps.

    Args:
        path: `.parquet`.
        out: folder, made if needed.
        quarantine, columns: as `read` takes them.

    Raises:
        BadInput: not parquet. CorruptFile, UnknownName: as `read`.
    """
    path = Path(path)
    if path.suffix.lower() != ".parquet" or not path.exists():
        raise BadInput(f"{path} is no parquet file: only these are read in parts; leave out= away")
    arrow = require("pyarrow.parquet", "data")
    start = 0
    with shards.Writer(out) as writer:
        try:
            for batch in arrow.ParquetFile(path).iter_batches(BATCH):
                part = _signals(_columns(batch, path), columns, path.name, start, quarantine=quarantine)
                writer.add(part.ids, {name: part.field(name) for name in part.names})
                start += len(part)
        except (ValueError, OSError, KeyError) as error:
            if isinstance(error, BadInput):
                raise
            raise CorruptFile(f"{path} can't be read as parquet: {error}") from error
    return Signals.load(out)


def _signals(
    table: dict[str, NDArray[Any]],
    columns: Mapping[str, str | Sequence[str]],
    name: str,
    start: int = 0,
    *,
    quarantine: bool = False,
) -> Signals:
    """The columns that are signals, with ids; rows without ids are called by their place from `start` on."""
    named = {ALIASES.get(signal, signal): column for signal, column in columns.items()}
    chosen = _found(table) | named
    fields = {signal: _column(table, column) for signal, column in chosen.items()}
    ids = fields.pop("ids", None)
    if ids is None:
        rows = len(next(iter(fields.values()), ()))
        ids = np.array([f"{name}:{row}" for row in range(start, start + rows)])
    return Signals.with_bad_rows(ids, **fields) if quarantine else Signals(ids, **fields)


def _table(path: Path) -> dict[str, NDArray[Any]]:
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            beside = path.with_name("ids.npy")
            found = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
            return found | ({"ids": np.load(beside, allow_pickle=False)} if beside.exists() else {})
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        if kind == ".jsonl":
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
            return {name: _array(name, [line.get(name) for line in lines]) for name in (lines[0] if lines else {})}
        if kind in (".parquet", ".csv"):
            return _arrow(path, kind)
    except (ValueError, OSError, KeyError, EOFError) as error:
        raise CorruptFile(f"{path} can't be read as {kind[1:]}: {error}") from error
    raise BadInput(
        f"{path.name}: signals are read from .parquet, .npz, .npy, .jsonl and .csv, not {kind or 'no suffix'}"
    )


def _arrow(path: Path, kind: str) -> dict[str, NDArray[Any]]:
    module = require("pyarrow.parquet" if kind == ".parquet" else "pyarrow.csv", "data")
    table = module.read_table(path) if kind == ".parquet" else module.read_csv(path)
    return _columns(table.combine_chunks(), path)


def _columns(table: Any, path: Path) -> dict[str, NDArray[Any]]:
    """Columns of an arrow table or batch as arrays; lists of one length become `[n, length]`."""
    arrow = require("pyarrow", "data")
    found: dict[str, NDArray[Any]] = {}
    for name in table.schema.names:
        column = table.column(name)
        column = column.combine_chunks() if isinstance(column, arrow.ChunkedArray) else column
        if column.null_count:
            raise BadInput(f"column {name!r} of {path} has {column.null_count} empty cells")
        nested = any(check(column.type) for check in (arrow.types.is_list, arrow.types.is_large_list))
        if nested or arrow.types.is_fixed_size_list(column.type):
            found[name] = _lists(name, column)
        else:
            found[name] = _array(name, column.to_numpy(zero_copy_only=False))
    return found


def _lists(name: str, column: Any) -> NDArray[Any]:
    """A column of lists; numbers go to an array without becoming Python objects."""
    compute = require("pyarrow.compute", "data")
    lengths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        raise BadInput(f"column {name!r} has lists of different lengths")
    inner = column.flatten()
    if inner.null_count:
        raise BadInput(f"column {name!r} has {inner.null_count} empty entries in its lists")
    if inner.type.id in (require("pyarrow", "data").list_(inner.type).id, column.type.id):
        return _array(name, column.to_pylist())  # lists of lists
    return inner.to_numpy(zero_copy_only=False).reshape(len(column), *lengths)


def _array(name: str, values: Any) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise BadInput(f"column {name!r} has lists of different lengths") from error
    return array.astype(np.str_) if array.dtype.kind == "O" and all(isinstance(v, str) for v in array) else array


def _found(table: dict[str, NDArray[Any]]) -> dict[str, str | list[str]]:
    """Columns that say what they are. Text columns other than ids are data, not signals."""
    found: dict[str, str | list[str]] = {}
    numbered: dict[str, list[tuple[int, str]]] = {}
    for name, values in table.items():
        match = NUMBERED.match(name)
        if match:
            base = ALIASES.get(match[1], match[1])
            numbered.setdefault(base, []).append((int(match[2]), name))
        elif values.dtype.kind in "fiub" or ALIASES.get(name, name) == "ids":
            found[ALIASES.get(name, name)] = name
    return found | {base: [name for _, name in sorted(parts)] for base, parts in numbered.items()}


def _column(table: dict[str, NDArray[Any]], column: str | Sequence[str]) -> NDArray[Any]:
    names = [column] if isinstance(column, str) else list(column)
    for name in names:
        if name not in table:
            raise UnknownName("column", name, table)
    return table[names[0]] if isinstance(column, str) else np.stack([table[name] for name in names], axis=1)
