"""JSON lines, parsed when asked for: the file is indexed by line once, and never held in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prunus.core.errors import BadInput, CorruptFile, UnknownName, require
from prunus.prunables.arrow import plain
from prunus.prunables.items import stacked
from prunus.sources.held import named_rows
from prunus.sources.location import Location, readable


class JsonRows:
    """Lines of a .jsonl file. The id is file:line, from 0; blank lines are counted but are no rows."""

    uncached = None

    def __init__(self, file: Location, lines: np.ndarray | None = None) -> None:
        """Args:
        lines: int64 `[n, 3]`: line number, first byte, length; None indexes the file.
        """
        self.file = file
        self._lines = _index(file) if lines is None else lines

    def __len__(self) -> int:
        return len(self._lines)

    def default_ids(self) -> np.ndarray:
        return named_rows(self.file.relative, self._lines[:, 0])

    def names(self) -> list[str]:
        first = next((row for row in self._parsed(np.arange(min(len(self), 100))) if isinstance(row, dict)), {})
        return list(first)

    def _parsed(self, positions: np.ndarray) -> Iterator[Any]:
        """Rows as dicts; a line that is no JSON object yields the error instead."""
        with self.file.fs.open(self.file.path, "rb") as handle:
            for _, start, length in self._lines[positions].tolist():
                handle.seek(start)
                try:
                    row = json.loads(handle.read(length))
                    yield row if isinstance(row, dict) else CorruptFile(f"a {type(row).__name__}, not an object")
                except (ValueError, RecursionError) as error:
                    yield CorruptFile(str(error))

    def broken(self) -> dict[int, str]:
        """Position -> what is wrong, for every line that is no JSON object. Reads the whole file."""
        rows = enumerate(self._parsed(np.arange(len(self))))
        return {place: str(row) for place, row in rows if isinstance(row, CorruptFile)}

    def records(self, positions: np.ndarray) -> list[dict[str, Any]]:
        """These rows as the objects they are."""
        rows = list(self._parsed(positions))
        bad = [place for place, row in enumerate(rows) if isinstance(row, CorruptFile)]
        if bad:
            named = named_rows(self.file.relative, self._lines[positions[bad], 0])
            first = "; ".join(f"{id_} ({rows[place]})" for id_, place in zip(named[:5].tolist(), bad))
            raise CorruptFile(
                f"{len(bad)} rows of {self.file.path} are not JSON objects: {first}; quarantine=True leaves them out"
            )
        return rows

    def column(self, name: str) -> np.ndarray | None:
        rows = self.records(np.arange(len(self)))
        missing = [place for place, row in enumerate(rows) if name not in row]
        if len(missing) == len(rows):
            raise UnknownName("column", name, self.names())
        if missing:
            named = self.default_ids()[missing[:5]].tolist()
            raise BadInput(f"{len(missing)} rows of {self.file.path} have no {name!r}, such as {named}")
        return plain(stacked([row[name] for row in rows]))

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> dict[str, Any]:
        rows = self.records(positions)
        names = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
        return {name: stacked([row.get(name) for row in rows]) for name in names}

    def table(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Any:
        """These rows as an Arrow table; a key that a row lacks becomes null."""
        pa = require("pyarrow", "data")
        rows = self.records(positions)
        names = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
        return pa.table({name: [row.get(name) for row in rows] for name in names})

    def select(self, positions: np.ndarray) -> JsonRows:
        return JsonRows(self.file, self._lines[positions])

    def native(self) -> None:
        return None

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        return self.file.identity(verify=verify)


def _index(file: Location) -> np.ndarray:
    found: list[tuple[int, int, int]] = []
    with readable(file, "JSON lines file"), file.fs.open(file.path, "rb") as handle:
        start = 0
        for number, line in enumerate(handle):
            length = len(line.rstrip(b"\r\n"))
            if line.strip():
                found.append((number, start, length))
            start += len(line)
    return np.array(found, dtype=np.int64).reshape(-1, 3)
