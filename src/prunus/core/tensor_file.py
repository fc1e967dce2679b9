"""The header of a safetensors file: made in a fixed order, and checked before any number is read.

The library writes several metadata entries in random order and reports a full disk without its error number, so prunus
writes the bytes itself: 8 bytes of length, that much JSON, then the numbers. Any safetensors reader reads them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from prunus.core.errors import CorruptFile

_BY_WIDTH = {
    8: ("F64", "I64", "U64", "C64"),
    4: ("F32", "I32", "U32"),
    2: ("F16", "BF16", "I16", "U16"),
    1: ("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"),
}
WIDTH = {name: width for width, names in _BY_WIDTH.items() for name in names}
MAX_HEADER = 100_000_000  # the limit of the format itself


@dataclass(frozen=True)
class Tensor:
    """One entry: where its numbers lie, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """A checked header.

    Attributes:
        tensors: name -> entry.
        metadata: free text entries.
        size: bytes of the whole file.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    size: int


def make_header(
    entries: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, list[str]]:
    """The header's bytes, and the order in which the numbers follow: wide types first, then by name.

    Args:
        entries: (name, dtype as in WIDTH, shape).
        metadata: text entries.
    """
    head: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    order = sorted(entries, key=lambda entry: (-WIDTH[entry[1]], entry[0]))
    at = 0
    for name, dtype, shape in order:
        stop = at + math.prod(shape) * WIDTH[dtype]
        head[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, stop]}
        at = stop
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, [name for name, _, _ in order]


def read_header(path: str | Path) -> Header:
    """Read and check the header of a file.

    Raises:
        CorruptFile: truncated, longer than it says, a hostile header size, doubled names, overlapping or loose offsets.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head, base = _json(file, size, path)
    return _check(head, base, size, path)


def _json(file: BinaryIO, size: int, path: Path) -> tuple[dict[str, Any], int]:
    raw = file.read(8)
    length = int.from_bytes(raw, "little")
    if len(raw) < 8:
        raise CorruptFile(f"{path} has {size} bytes and is no safetensors file: write it again")
    if length > min(MAX_HEADER, size - 8):
        raise CorruptFile(f"{path} announces a header of {length} bytes in {size}: not a whole safetensors file")
    try:
        head = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} has a broken safetensors header: {error}") from error
    if not isinstance(head, dict):
        raise CorruptFile(f"{path} has a safetensors header that is no table")
    return cast(dict[str, Any], head), 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(n for n in names if names.count(n) > 1)!r} appears twice")
    return table


def _check(head: dict[str, Any], base: int, size: int, path: Path) -> Header:
    metadata: Any = head.pop("__metadata__", None) or {}
    try:
        texts = {str(name): value + "" for name, value in metadata.items()}
    except (AttributeError, TypeError) as error:
        raise CorruptFile(f"{path} has metadata that are not text") from error
    tensors = {name: _tensor(name, entry, base, path) for name, entry in head.items()}
    at = base
    for tensor in sorted(tensors.values(), key=lambda t: (t.start, t.stop)):
        if tensor.start != at:
            kind = "overlaps another" if tensor.start < at else "leaves a hole before it"
            raise CorruptFile(f"{path}: tensor {tensor.name!r} at bytes {tensor.start}..{tensor.stop} {kind}")
        at = tensor.stop
    if at != size:
        raise CorruptFile(f"{path} has {size} bytes where its header describes {at}: truncated or altered")
    return Header(tensors, texts, size)


def _tensor(name: str, entry: Any, base: int, path: Path) -> Tensor:
    try:
        dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = [*shape, start, stop]
        known = WIDTH[dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{path}: the entry of tensor {name!r} can't be read: {entry!r:.200}") from error
    if any(type(n) is not int or n < 0 for n in numbers) or stop - start != math.prod(shape) * known:
        raise CorruptFile(f"{path}: tensor {name!r} ({dtype}, shape {shape}) does not fill bytes {start}..{stop}")
    return Tensor(name, dtype, shape, base + start, base + stop)
