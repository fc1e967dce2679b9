"""Rows of parquet files, read by row group when they are asked for; a filtered Dataset never copies them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from prunus.core.errors import BadInput, CorruptFile, UnknownName, require
from prunus.prunables import arrow
from prunus.sources.held import named_rows
from prunus.sources.location import Location, readable

CACHE_BYTES = 1 << 30


class Reader:
    """Open files with their row groups, and the groups read last; shared by all views of the same files.

    Memory: up to `cache_bytes` of decoded row groups, and one group more.
    """

    def __init__(self, files: Sequence[Location], *, cache_bytes: int = CACHE_BYTES) -> None:
        if not files:
            raise BadInput("no parquet file was given")
        self.files = tuple(files)
        self._open: list[Any] = [None] * len(files)
        self._cache: OrderedDict[tuple[int, tuple[str, ...]], Any] = OrderedDict()
        self._cache_bytes = cache_bytes
        self.groups: list[tuple[int, int]] = []
        sizes: list[int] = []
        self.schema: Any = None
        for number, file in enumerate(files):
            meta = self._metadata(number, file)
            self.groups += [(number, group) for group in range(meta.num_row_groups)]
            sizes += [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": [None] * len(self.files), "_cache": OrderedDict()}

    def _metadata(self, number: int, file: Location) -> Any:
        opened = self._file(number)
        if self.schema is None:
            self.schema = opened.schema_arrow
        elif set(opened.schema_arrow.names) != set(self.schema.names):
            odd = sorted(set(opened.schema_arrow.names) ^ set(self.schema.names))
            raise BadInput(
                f"{file.relative} and {self.files[0].relative} differ in columns {odd[:5]}: one dataset has one set"
            )
        return opened.metadata

    def _file(self, number: int) -> Any:
        if self._open[number] is None:
            pq = require("pyarrow.parquet", "data")
            file = self.files[number]
            with readable(file, "parquet file"):
                handle = file.path if "file" in file.protocols() else file.fs.open(file.path, "rb")
                self._open[number] = pq.ParquetFile(handle, page_checksum_verification=True)
        return self._open[number]

    def group(self, number: int, columns: tuple[str, ...]) -> Any:
        """One row group as a table."""
        key = (number, columns)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        file, place = self.groups[number]
        with readable(self.files[file], "parquet file"):
            table = self._file(file).read_row_group(place, columns=list(columns), use_threads=False)
        expected = int(self.starts[number + 1] - self.starts[number])
        if table.num_rows != expected:
            raise CorruptFile(
                f"{self.files[file].path}: row group {place} holds {table.num_rows} rows, its footer says {expected}"
            )
        self._cache[key] = table
        while len(self._cache) > 1 and sum(kept.nbytes for kept in self._cache.values()) > self._cache_bytes:
            self._cache.popitem(last=False)
        return table

    def column(self, name: str, groups: Sequence[int]) -> Any:
        """One column of some row groups, past the cache."""
        pa = require("pyarrow", "data")
        parts: list[Any] = []
        for file, place in (self.groups[group] for group in groups):
            with readable(self.files[file], "parquet file"):
                table = self._file(file).read_row_group(place, columns=[name], use_threads=False)
            parts += arrow.nested(table, name).chunks
        return pa.chunked_array(parts) if parts else arrow.nested(self.schema.empty_table(), name)


class ParquetRows:
    """The rows of one or several parquet files, all or some."""

    uncached = None

    def __init__(self, reader: Reader, positions: np.ndarray | None = None) -> None:
        self._reader = reader
        self._positions = positions

    def __len__(self) -> int:
        return int(self._reader.starts[-1]) if self._positions is None else len(self._positions)

    @property
    def metadata(self) -> dict[bytes, bytes] | None:
        """Schema metadata, where the Hugging Face layout keeps class names."""
        return self._reader.schema.metadata

    @property
    def schema(self) -> Any:
        """The Arrow schema."""
        return self._reader.schema

    def default_ids(self) -> np.ndarray:
        """file:row, unicode `[n]`."""
        reader = self._reader
        counts = np.zeros(len(reader.files), dtype=np.int64)
        for (file, _), size in zip(reader.groups, np.diff(reader.starts)):
            counts[file] += size
        parts = [named_rows(file.relative, np.arange(count)) for file, count in zip(reader.files, counts)]
        ids = np.concatenate(parts)
        return ids if self._positions is None else ids[self._positions]

    def names(self) -> list[str]:
        return list(self._reader.schema.names)

    def column(self, name: str) -> np.ndarray | None:
        first = name.partition(".")[0]
        if first not in self.names():
            raise UnknownName("column", name, self.names())
        starts, places = self._reader.starts, self._positions
        if places is None:
            return arrow.plain(arrow.column_values(self._reader.column(name, range(len(starts) - 1))))
        group = np.searchsorted(starts, places, side="right") - 1
        needed, number = np.unique(group, return_inverse=True)
        values = arrow.plain(arrow.column_values(self._reader.column(name, needed.tolist())))
        begins = np.concatenate([[0], np.cumsum(np.diff(starts)[needed])])
        return values[begins[number] + places - starts[group]]

    def rows(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> dict[str, Any]:
        return arrow.table_columns(self.table(positions, columns))

    def table(self, positions: np.ndarray, columns: Sequence[str] | None = None) -> Any:
        """The rows at these positions as an Arrow table, in the order asked."""
        pa = require("pyarrow", "data")
        reader = self._reader
        wanted = tuple(columns) if columns is not None else tuple(self.names())
        places = positions if self._positions is None else self._positions[positions]
        if len(places) == 0:
            return reader.schema.empty_table().select(list(wanted))
        group = np.searchsorted(reader.starts, places, side="right") - 1
        order = np.argsort(group, kind="stable")
        parts: list[Any] = []
        for number in np.unique(group).tolist():
            local = places[order][group[order] == number] - reader.starts[number]
            parts.append(reader.group(number, wanted).take(local))
        joined = pa.concat_tables(parts)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return joined if len(parts) == 1 and (order[:-1] < order[1:]).all() else joined.take(back)

    def broken(self) -> dict[int, str]:
        """Position -> reason, for the rows of every row group that can't be read."""
        reader, places = self._reader, np.arange(len(self)) if self._positions is None else self._positions
        found: dict[int, str] = {}
        for number in range(len(reader.groups)):
            try:
                reader.group(number, tuple(self.names()))
            except CorruptFile as error:
                inside = (places >= reader.starts[number]) & (places < reader.starts[number + 1])
                found |= dict.fromkeys(np.flatnonzero(inside).tolist(), str(error))
        return found

    def select(self, positions: np.ndarray) -> ParquetRows:
        return ParquetRows(self._reader, positions if self._positions is None else self._positions[positions])

    def native(self) -> None:
        return None

    def digest(self, *, verify: bool, order: np.ndarray | None = None) -> str:
        text = "\n".join(file.identity(verify=verify) for file in self._reader.files)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
