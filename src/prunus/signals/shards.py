"""Shards of row signals on disk: safetensors through memory maps, and a JSON manifest that is written last."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from prunus.core.errors import BadInput, CorruptFile, SchemaTooNew
from prunus.core.files import read_json, write_arrays, write_json

SHARD = 100_000
SCHEMA = 1
MANIFEST = "signals.json"


class Writer:
    """Writes rows as they come and holds at most one shard in memory.

    Args:
        folder: made if needed; an old manifest there is removed first.
        shard: rows per file.
        provenance: JSON kept in the manifest.
    """

    def __init__(self, folder: str | Path, *, shard: int = SHARD, provenance: Mapping[str, Any] | None = None) -> None:
        if shard < 1:
            raise BadInput(f"a shard needs 1 row or more, not {shard}")
        self.folder, self.shard = Path(folder), shard
        self._provenance = dict(provenance or {})
        self._waiting: list[tuple[NDArray[Any], dict[str, Tensor]]] = []
        self._rows = 0
        self._entries: list[dict[str, Any]] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def add(self, ids: NDArray[Any], fields: Mapping[str, Tensor]) -> None:
        """Append rows; full shards are written at once."""
        self._waiting.append((ids, dict(fields)))
        self._rows += len(ids)
        while self._rows >= self.shard:
            self._flush(self.shard)

    def close(self) -> Path:
        """Write the rest and the manifest."""
        if self._rows:
            self._flush(self._rows)
        if not self._entries:
            raise BadInput(f"no rows were written to {self.folder}")
        manifest = {"schema": SCHEMA, "shards": self._entries, "provenance": self._provenance}
        write_json(self.folder / MANIFEST, manifest)
        return self.folder

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()

    def _flush(self, rows: int) -> None:
        ids = np.concatenate([part for part, _ in self._waiting])
        fields = {name: torch.cat([part[name] for _, part in self._waiting]) for name in self._waiting[0][1]}
        name = f"rows-{len(self._entries):05d}.safetensors"
        arrays = {key: value[:rows].contiguous().numpy() for key, value in fields.items()}
        path = write_arrays(self.folder / name, {"ids": ids[:rows], **arrays})
        self._entries.append({"file": name, "rows": rows, "bytes": path.stat().st_size, "blake2b": file_hash(path)})
        self._rows -= rows
        rest = {key: value[rows:] for key, value in fields.items()}
        self._waiting = [(ids[rows:], rest)] if self._rows else []


def open_folder(
    folder: str | Path, *, verify: bool = False
) -> tuple[NDArray[Any], dict[str, tuple[Tensor, ...]], Mapping[str, Any]]:
    """Ids, fields (one tensor per shard) and provenance of what `Writer` wrote.

    Raises:
        CorruptFile: a file is missing, truncated, hostile or not what the manifest says.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        raise CorruptFile(f"{folder} has no {MANIFEST}: not a set of signals, or its writing was interrupted")
    manifest = read_json(folder / MANIFEST)
    entries = _entries(folder, manifest)
    opened = [_open(folder / entry["file"], entry, verify) for entry in entries]
    names = set(opened[0][1])
    if any(set(fields) != names for _, fields in opened):
        raise CorruptFile(f"the shards of {folder} hold different fields")
    ids = np.concatenate([part for part, _ in opened])
    columns = {name: tuple(fields[name] for _, fields in opened) for name in sorted(names)}
    return ids, columns, manifest.get("provenance", {})


def open_arrays(path: str | Path) -> dict[str, Tensor | NDArray[Any]]:
    """Tensors of one safetensors file, memory-mapped; text columns as unicode arrays.

    Raises:
        CorruptFile: truncated or hostile.
    """
    try:
        with safe_open(str(path), "pt") as file:
            flat: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError, RuntimeError) as error:
        raise CorruptFile(f"{path} is not a whole safetensors file: {error}") from error
    found: dict[str, Tensor | NDArray[Any]] = {}
    for name, tensor in flat.items():
        base, _, kind = name.rpartition("#")
        if kind == "ends":
            found[base] = _texts(path, flat, base, tensor)
        elif kind != "text":
            found[name] = tensor
    return found


def file_hash(path: Path) -> str:
    """blake2b of a file's contents."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _entries(folder: Path, manifest: Any) -> list[dict[str, Any]]:
    path = folder / MANIFEST
    if not isinstance(manifest, dict) or not isinstance(manifest.get("schema"), int):
        raise CorruptFile(f"{path} is not a manifest of signals")
    if manifest["schema"] > SCHEMA:
        raise SchemaTooNew(path, manifest["schema"], SCHEMA)
    entries = manifest.get("shards")
    if not isinstance(entries, list) or not entries:
        raise CorruptFile(f"{path} lists no shards")
    for entry in entries:
        name = entry.get("file") if isinstance(entry, dict) else None
        if not isinstance(name, str) or Path(name).name != name or not isinstance(entry.get("rows"), int):
            raise CorruptFile(f"{path} has a bad shard entry: {entry!r}")
    return entries


def _open(path: Path, entry: Mapping[str, Any], verify: bool) -> tuple[NDArray[Any], dict[str, Tensor]]:
    if not path.exists() or path.stat().st_size != entry.get("bytes"):
        raise CorruptFile(f"{path} is missing or not {entry.get('bytes')} bytes long: the write was cut or it changed")
    if verify and file_hash(path) != entry.get("blake2b"):
        raise CorruptFile(f"{path} does not have the hash that the manifest says: it changed after writing")
    found = open_arrays(path)
    ids = found.pop("ids", None)
    ids = ids.numpy() if isinstance(ids, Tensor) else ids
    fields = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if ids is None or not fields or any(len(value) != entry["rows"] for value in (ids, *fields.values())):
        raise CorruptFile(f"{path} does not hold {entry['rows']} rows with ids")
    return ids, fields


def _texts(path: str | Path, flat: Mapping[str, Tensor], base: str, ends: Tensor) -> NDArray[np.str_]:
    data = flat[f"{base}#text"].numpy().tobytes() if f"{base}#text" in flat else b""
    borders = [0, *ends.tolist()]
    if any(a > b for a, b in pairwise(borders)) or borders[-1] > len(data):
        raise CorruptFile(f"{path}: the text column {base!r} points outside its bytes")
    try:
        return np.array([data[a:b].decode() for a, b in pairwise(borders)], dtype=np.str_)
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path}: the text column {base!r} is not UTF-8: {error}") from error
