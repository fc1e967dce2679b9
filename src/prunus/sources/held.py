"""Small files held whole in memory: CSV and text as tables, npz as arrays, data sets that packages bring."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prunus.core.errors import BadInput, CorruptFile, require
from prunus.prunables.arrays import Arrays, array_digest
from prunus.prunables.tables import Table
from prunus.sources.location import Location, readable


class FileTable(Table):
    """A table that came from a file: ids are file:row, identity is the file's."""

    def __init__(self, data: Any, file: Location, numbers: np.ndarray | None = None) -> None:
        super().__init__(data)
        self.file = file
        self._numbers = np.arange(len(self)) if numbers is None else numbers

    def default_ids(self) -> np.ndarray:
        return named_rows(self.file.relative, self._numbers)

    def select(self, positions: np.ndarray) -> FileTable:
        return FileTable(self._data.take(positions), self.file, self._numbers[positions])

    def native(self) -> None:
        return None

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        return self.file.identity(verify=verify)


class FileArrays(Arrays):
    """Arrays made from a file or brought by a package. The id is name:number.

    Attributes:
        record: how the arrays were made (hashes, lengths), where more than the file decides; it is then the identity.
    """

    def __init__(
        self,
        columns: dict[str, Any],
        source: Location | str,
        name: str,
        *,
        numbers: np.ndarray | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(columns)
        self._source, self._name, self.record = source, name, record
        self._numbers = np.arange(len(self)) if numbers is None else numbers

    def default_ids(self) -> np.ndarray:
        return named_rows(self._name, self._numbers)

    def select(self, positions: np.ndarray) -> FileArrays:
        chosen = {name: values[positions] for name, values in self._columns.items()}
        return FileArrays(chosen, self._source, self._name, numbers=self._numbers[positions], record=self.record)

    def native(self) -> None:
        return None

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        if self.record is not None:
            return json.dumps(self.record, sort_keys=True)
        return self._source if isinstance(self._source, str) else self._source.identity(verify=verify)


def named_rows(name: str, numbers: np.ndarray) -> np.ndarray:
    """name:number, unicode `[n]`."""
    if numbers.size == 0:
        return np.zeros(0, dtype="U1")
    width = len(name) + 1 + len(str(int(numbers.max())))  # numpy would reserve 21 characters for the number
    return np.char.add(f"{name}:", numbers.astype(np.str_)).astype(f"U{width}")


def csv_rows(file: Location, *, quarantine: bool, delimiter: str = ",") -> tuple[FileTable, list[str]]:
    """(rows, ids of lines whose number of fields is wrong). Rows count from 0 after the header, bad ones included.

    Raises:
        CorruptFile: there are such lines and `quarantine` is off, or the file is no CSV at all.
    """
    csv = require("pyarrow.csv", "data")
    bad: list[int] = []

    def skip(row: Any) -> str:
        bad.append(int(row.number))
        return "skip"

    with readable(file, "CSV file"):
        table = csv.read_csv(
            io.BytesIO(file.read()),
            read_options=csv.ReadOptions(use_threads=False),  # row numbers of bad lines are known only without threads
            parse_options=csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip, newlines_in_values=True),
        )
    lost = np.array(bad, dtype=np.int64) - 2  # numbers count from 1 and include the header
    ids = named_rows(file.relative, lost).tolist()
    if ids and not quarantine:
        raise CorruptFile(
            f"{len(ids)} rows of {file.path} have a wrong number of fields: {ids[:10]}; quarantine=True leaves them out"
        )
    numbers = np.setdiff1d(np.arange(table.num_rows + len(bad)), lost)
    return FileTable(table, file, numbers), ids


def text_rows(file: Location) -> FileTable:
    """One row for each line that is not blank; the row number counts blank lines too."""
    pa = require("pyarrow", "data")
    with readable(file, "UTF-8 text file"):
        lines = file.read().decode("utf-8").splitlines()
    kept = [number for number, line in enumerate(lines) if line.strip()]
    table = pa.table({"text": pa.array([lines[number] for number in kept], type=pa.string())})
    return FileTable(table, file, np.array(kept, dtype=np.int64))


def npz_rows(file: Location) -> FileArrays:
    """Arrays of an .npz (or the one of an .npy); pickled objects are refused."""
    with readable(file, "numpy file"):
        try:
            loaded = np.load(io.BytesIO(file.read()), allow_pickle=False)
            arrays = {"x": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
        except zipfile.BadZipFile as error:
            raise CorruptFile(f"{file.path} is not a whole npz file: {error}") from error
    flat = [name for name, array in arrays.items() if array.ndim == 0]
    if flat:
        raise BadInput(f"{file.path}: arrays {flat[:5]} have no rows (shape ()); one array entry is one row")
    return FileArrays(arrays, file, file.relative)


def sklearn_rows(
    name: str, known: Sequence[str] = ("digits", "iris", "wine", "breast_cancer")
) -> tuple[FileArrays, list[str]]:
    """(arrays x and y, class names) of a data set scikit-learn ships; digits are float32 `[n, 1, 8, 8]` in 0..1."""
    datasets = require("sklearn.datasets", "data")
    if name not in known:
        raise BadInput(f"sklearn:{name} is not shipped; there are {', '.join(known)}")
    found = getattr(datasets, f"load_{name}")()
    x = np.asarray(found.data, dtype=np.float32)
    if name == "digits":
        x = (x / 16.0).reshape(-1, 1, 8, 8)
    columns = {"x": x, "y": np.asarray(found.target, dtype=np.int64)}
    return FileArrays(columns, f"sklearn:{name}:{array_digest(x)}", name), [str(label) for label in found.target_names]
