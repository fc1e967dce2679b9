"""Rows by content: one hash for each row, what can't be read, what columns hold. One pass, 16 bytes of memory for a row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prunus.core.errors import CorruptFile
from prunus.prunables.backings import Backing, Columns
from prunus.prunables.dataset import Dataset
from prunus.prunables.images import Preprocess, Unreadable, is_image
from prunus.prunables.items import Items

Progress = Callable[[int, int], None]
BLOCK = 512
PLAIN = Preprocess()


@dataclass
class ColumnFacts:
    """What one column holds.

    Attributes:
        name: of the column.
        kind: number, image, text, list or other.
        missing: cells without a value.
        not_finite: numbers that are NaN or infinite.
        low: smallest number or shortest text (characters).
        high: largest number or longest text.
        sizes: height x width -> images.
    """

    name: str
    kind: str = ""
    missing: int = 0
    not_finite: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    sizes: dict[str, int] = field(default_factory=dict)

    def see(self, values: Any) -> None:
        """Add one block. Images that can't be read are counted as rows, not as missing cells."""
        if self.kind == "image":
            return
        if hasattr(values, "numpy"):
            self.kind = "number" if values.ndim == 1 else "list"
            array = values.numpy()
            finite = np.isfinite(array) if array.dtype.kind == "f" else np.ones(array.shape, dtype=bool)
            self.not_finite += int((~finite).sum())
            self._range(array[finite])
            return
        present = [value for value in values if value is not None]
        self.missing += len(values) - len(present)
        if not present:
            return
        self.kind = "text" if isinstance(present[0], str) else "list" if isinstance(present[0], list) else "other"
        if self.kind == "text":
            self._range(np.array([len(value) for value in present]))

    def _range(self, numbers: np.ndarray) -> None:
        if numbers.size:
            self.low, self.high = min(self.low, float(numbers.min())), max(self.high, float(numbers.max()))

    @property
    def constant(self) -> bool:
        """A number column with one value only."""
        return self.kind == "number" and self.low == self.high and not self.not_finite


@dataclass
class Content:
    """What one pass found.

    Attributes:
        digests: `[n]` of 16 bytes each (dtype V16); zero where a row can't be read.
        unreadable: position -> reason.
        columns: facts by name.
        labels: position -> label, where rows had to be read to know it.
        tokens: position -> text or image fingerprint for near duplicates, when asked for.
    """

    digests: np.ndarray
    unreadable: dict[int, str]
    columns: dict[str, ColumnFacts]
    labels: dict[int, Any] = field(default_factory=dict)
    tokens: dict[int, Any] = field(default_factory=dict)

    @property
    def readable(self) -> np.ndarray:
        """Positions of rows that can be read."""
        return np.setdiff1d(np.arange(len(self.digests)), np.array(sorted(self.unreadable), dtype=np.int64))


def read_content(
    data: Dataset, *, sketch: Callable[[Any], Any] | None = None, progress: Progress | None = None
) -> Content:
    """Read every row once. Labels and ids are not part of a row's hash; images count by their pixels.

    Args:
        data: the rows; this does not count as a read of test rows for a choice.
        sketch: of one cell (pixels `[channels, h, w]` or text), kept in `tokens`, for near duplicates.
        progress: called with (rows done, rows).
    """
    content = Content(np.zeros(len(data), dtype="V16"), {}, {})
    left_out = {data.label, data.id_column}
    for start in range(0, len(data), BLOCK):
        places = np.arange(start, min(start + BLOCK, len(data)))
        for part, rows in _readable_parts(data.backing, places, content.unreadable):
            _see(rows, part, left_out, content, sketch)
            if data.known_labels is None and data.label in rows:
                content.labels |= dict(zip(part.tolist(), _plain(rows[data.label])))
        if progress is not None:
            progress(int(places[-1]) + 1, len(data))
    return content


def _readable_parts(
    backing: Backing, places: np.ndarray, unreadable: dict[int, str]
) -> list[tuple[np.ndarray, Columns]]:
    """The block in one piece, or row by row when something in it can't be read."""
    failures: tuple[type[Exception], ...] = (Exception,) if isinstance(backing, Items) else (CorruptFile,)
    try:
        return [(places, backing.rows(places))]
    except failures as error:
        if len(places) == 1:
            unreadable[int(places[0])] = (
                f"{type(error).__name__}: {error}" if isinstance(backing, Items) else str(error)
            )
            return []
    return [part for place in places for part in _readable_parts(backing, np.array([place]), unreadable)]


def _see(
    rows: Columns, places: np.ndarray, left_out: set[str | None], content: Content, sketch: Callable[[Any], Any] | None
) -> None:
    hashes = [hashlib.blake2b(digest_size=16) for _ in places]
    for name, values in rows.items():
        facts = content.columns.setdefault(name, ColumnFacts(name))
        if isinstance(values, list) and any(is_image(value) for value in values):
            values = _pixels(name, values, places, facts, content.unreadable)
        facts.see(values)
        if name in left_out:
            continue
        for place, digest, cell in zip(places.tolist(), hashes, values):
            digest.update(name.encode() + b"\0" + cell_bytes(cell))
            if (
                sketch is not None
                and (facts.kind == "image" or isinstance(cell, str))
                and place not in content.unreadable
            ):
                content.tokens.setdefault(place, sketch(cell))
    for place, digest in zip(places.tolist(), hashes):
        if place not in content.unreadable:
            content.digests[place] = np.void(digest.digest())


def _pixels(
    name: str, values: list[Any], places: np.ndarray, facts: ColumnFacts, unreadable: dict[int, str]
) -> list[np.ndarray | None]:
    facts.kind = "image"
    out: list[np.ndarray | None] = []
    for place, value in zip(places.tolist(), values):
        try:
            pixels = PLAIN.pixels(value)
        except Unreadable as error:
            unreadable[place] = f"{name}: {error}"
            out.append(None)
            continue
        size = f"{pixels.shape[1]}x{pixels.shape[2]}"
        facts.sizes[size] = facts.sizes.get(size, 0) + 1
        out.append(pixels)
    return out


def _plain(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def cell_bytes(cell: Any) -> bytes:
    """A cell as bytes that differ when the cell does."""
    if isinstance(cell, str):
        return cell.encode("utf-8", "surrogatepass")
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return bytes(cell)
    if hasattr(cell, "numpy"):
        cell = cell.numpy()
    if isinstance(cell, np.ndarray):
        return f"{cell.dtype.str}{cell.shape}".encode() + np.ascontiguousarray(cell).tobytes()
    return json.dumps(cell, sort_keys=True, default=repr).encode()


def equal_groups(digests: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
    """Positions with equal digests, two or more together, in the order of their first."""
    if not len(places):
        return []
    _, inverse, counts = np.unique(digests[places], return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    edges = np.cumsum(counts)[:-1]
    groups = [np.sort(places[group]) for group in np.split(order, edges) if len(group) > 1]
    return sorted(groups, key=lambda group: int(group[0]))


def shared(first: np.ndarray, second: np.ndarray, places: np.ndarray, other: np.ndarray) -> list[tuple[int, int]]:
    """(position here, first position there) of rows that both hold."""
    where: dict[bytes, int] = {}
    for place in other.tolist():
        where.setdefault(second[place].tobytes(), place)
    found: Sequence[tuple[int, int | None]] = [(place, where.get(first[place].tobytes())) for place in places.tolist()]
    return [(here, there) for here, there in found if there is not None]
