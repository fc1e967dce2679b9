"""Ids out of files: one a line, numpy, or a column of a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prunus.core.errors import BadInput, CorruptFile, UnknownName
from prunus.prunables.backings import Backing
from prunus.sources.held import csv_rows
from prunus.sources.jsonl import JsonRows
from prunus.sources.location import locate, readable
from prunus.sources.parquet import ParquetRows, Reader

NAMES = ("prunus_id", "id")


def ids_in(path: Path) -> np.ndarray:
    """int64 or unicode `[n]`, as they stand in the file.

    Raises:
        BadInput: no such file, an unknown suffix, no column of ids.
        CorruptFile: the file is not whole.
    """
    file = locate(str(path))
    if file.suffix == ".npy":
        with readable(file, "numpy file"):
            return _checked(np.load(path, allow_pickle=False), path)
    if file.suffix == ".csv":
        return _column(csv_rows(file, quarantine=False)[0], path)
    if file.suffix == ".parquet":
        return _column(ParquetRows(Reader([file])), path)
    if file.suffix == ".jsonl":
        return _column(JsonRows(file), path)
    if file.suffix not in (".txt", ".ids", ""):
        raise BadInput(f"{path}: ids are read from .txt, .npy, .csv, .parquet or .jsonl")
    with readable(file, "UTF-8 text file"):
        lines = [line.strip() for line in file.read().decode("utf-8").splitlines()]
    return np.array([line for line in lines if line], dtype=np.str_)


def _column(backing: Backing, path: Path) -> np.ndarray:
    names = backing.names()
    name = next((known for known in NAMES if known in names), names[0] if len(names) == 1 else None)
    if name is None:
        raise UnknownName(f"column of ids in {path}", NAMES[0], names)
    values = backing.column(name)
    if values is None or not len(values):
        return np.zeros(0, dtype=np.int64)
    return _checked(values.astype(np.str_) if values.dtype == object else values, path)


def _checked(ids: np.ndarray, path: Path) -> np.ndarray:
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
        raise CorruptFile(f"{path} holds {ids.dtype} {list(ids.shape)}, not a list of ids")
    return ids.astype(np.int64) if ids.dtype.kind in "iu" else ids
