"""Row signals from tables of predictions: parquet, npz, jsonl, csv. The columns' names say what they are, or you do."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, CorruptFile, UnknownName, require
from prunus.signals.rowset import Signals

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


def read(path: str | Path, **columns: str | Sequence[str]) -> Signals:
    """Signals from a table with one line per row.

    Args:
        path: `.parquet`, `.npz`, `.jsonl` or `.csv`.
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
    table = _table(path)
    named = {ALIASES.get(signal, signal): column for signal, column in columns.items()}
    chosen = _found(table) | named
    fields = {signal: _column(table, column) for signal, column in chosen.items()}
    ids = fields.pop("ids", None)
    if ids is None:
        ids = np.array([f"{path.name}:{row}" for row in range(len(next(iter(fields.values()), ())))])
    return Signals(ids, **fields)


def _table(path: Path) -> dict[str, NDArray[Any]]:
    kind = path.suffix.lower()
    try:
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
    raise BadInput(f"{path.name}: signals are read from .parquet, .npz, .jsonl and .csv, not {kind or 'no suffix'}")


def _arrow(path: Path, kind: str) -> dict[str, NDArray[Any]]:
    arrow = require("pyarrow", "data")
    module = require("pyarrow.parquet" if kind == ".parquet" else "pyarrow.csv", "data")
    table = module.read_table(path) if kind == ".parquet" else module.read_csv(path)
    found: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if column.null_count:
            raise BadInput(f"column {name!r} of {path} has {column.null_count} empty cells")
        if arrow.types.is_list(column.type) or arrow.types.is_fixed_size_list(column.type):
            found[name] = _array(name, column.to_pylist())
        else:
            found[name] = _array(name, column.to_numpy(zero_copy_only=False))
    return found


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
