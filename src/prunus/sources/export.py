"""export: a plan over rows as files that other programs read; and id files read back, for pins and bans.

txt and npy hold ids. npz holds the arrays of arrays. csv, parquet and jsonl hold the rows of the dataset with their id
in `prunus_id`; without a dataset they hold ids, groups and, for dropped rows, reasons. The loss weights of kept rows,
where a plan has some, are the column `prunus_weight` of all of these; txt, npy and symlinks have no place for them.
`symlinks` rebuilds an image folder, so that a training script runs unchanged. Everything appears whole or not at all.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prunus.core import files
from prunus.core.errors import BadInput, IdMismatch, ResourceError, UnknownName, require
from prunus.core.plan import Plan
from prunus.prunables.arrays import Arrays
from prunus.prunables.dataset import Dataset
from prunus.sources.folder import FolderRows
from prunus.sources.idfiles import ids_in

FORMATS = ("txt", "csv", "parquet", "npy", "npz", "symlinks", "jsonl")
ID, WEIGHT = "prunus_id", "prunus_weight"
BLOCK = 2048
Which = Literal["kept", "dropped"]


def export(
    plan: Plan,
    dataset: Dataset | None,
    path: str | Path,
    as_: str = "txt",
    *,
    which: Which = "kept",
    overwrite: bool = False,
) -> Path:
    """Write what a plan keeps (or drops).

    Args:
        plan: over rows.
        dataset: the rows it was made for; None to write ids only.
        path: of the file, or of the folder for symlinks.
        as_: txt, csv, parquet, npy, npz, jsonl or symlinks.
        which: kept or dropped rows.
        overwrite: replace what is there.

    Returns:
        `path`.

    Raises:
        BadInput: something is there already, the format does not fit the data, the plan is not about rows.
        IdMismatch: rows of the plan are not in the dataset.
        ResourceError: the disk is full.
    """
    path = Path(path)
    if as_ not in FORMATS:
        raise UnknownName("export format", as_, FORMATS)
    if plan.unit != "rows" or which not in ("kept", "dropped"):
        raise BadInput(f"export takes a plan over rows and which='kept' or 'dropped', not {plan.unit!r} and {which!r}")
    if path.exists() and not overwrite:
        raise BadInput(f"{path} is there already: choose another path, or overwrite")
    ids = plan.keep() if which == "kept" else plan.dropped()
    if dataset is not None:
        ids = dataset.ids[np.sort(dataset.positions(ids))]
    if as_ == "txt":
        return files.write_bytes(path, _lines(ids))
    if as_ == "npy":
        return files.write_bytes(path, _npy(ids))
    if as_ == "npz":
        return files.write_bytes(path, _npz(plan, dataset, ids, which))
    if as_ == "symlinks":
        return _symlinks(dataset, ids, path)
    with _whole(path) as temporary:
        if as_ == "jsonl":
            _jsonl(temporary, _records(plan, dataset, ids, which))
        else:
            (_csv if as_ == "csv" else _parquet)(temporary, _tables(plan, dataset, ids, which))
    return path


def _lines(ids: np.ndarray) -> bytes:
    texts = [str(id_) for id_ in ids.tolist()]
    odd = [text for text in texts if "\n" in text or "\r" in text or text != text.strip()]
    if odd:
        raise BadInput(f"ids such as {odd[0]!r} can't stand on lines of their own: export as npy or csv")
    return "".join(f"{text}\n" for text in texts).encode()


def _npy(ids: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, ids, allow_pickle=False)
    return sink.getvalue()


def _npz(plan: Plan, dataset: Dataset | None, ids: np.ndarray, which: Which) -> bytes:
    """The same arrays with only these rows, their ids, and their weights where the plan has some."""
    if dataset is None or not isinstance(dataset.backing, Arrays):
        raise BadInput("npz holds rows of arrays (.npz, sklearn:NAME): give those, or export tables as parquet")
    kept = dataset.subset(ids)
    columns = {name: kept.backing.column(name) for name in kept.backing.names() if name != ID}
    sink = io.BytesIO()
    arrays: dict[str, Any] = {name: array for name, array in columns.items() if array is not None}
    arrays[ID] = kept.ids
    arrays |= {} if (weights := _weights(plan, ids, which)) is None else {WEIGHT: weights}
    np.savez(sink, **arrays)
    return sink.getvalue()


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"can't write {path}: {error.strerror or error}") from error


def _tables(plan: Plan, dataset: Dataset | None, ids: np.ndarray, which: Which) -> Iterator[Any]:
    """Arrow tables, block after block: rows of the dataset, or ids with what the plan knows about them."""
    if dataset is None:
        yield _id_table(plan, which)
        return
    pa = require("pyarrow", "data")
    table = getattr(dataset.backing, "table", None)
    if table is None:
        raise BadInput(f"{dataset.name} is no table: export arrays as npz, or its ids (txt, npy)")
    places = dataset.positions(ids)
    for start in range(0, max(len(places), 1), BLOCK):
        block = places[start : start + BLOCK]
        rows = table(block)
        columns = {ID: pa.array(dataset.ids[block].tolist(), type=_id_type(pa, dataset.ids))}
        weights = _weights(plan, dataset.ids[block], which)
        columns |= {} if weights is None else {WEIGHT: pa.array(weights)}
        for name, column in columns.items():
            if name in rows.column_names:  # rows that an earlier export wrote
                rows = rows.drop_columns([name])
            rows = rows.append_column(name, column)
        kinds = {name: str(column.type) for name, column in columns.items()}
        yield rows.replace_schema_metadata(_described(rows.schema.metadata, kinds))


def _records(plan: Plan, dataset: Dataset | None, ids: np.ndarray, which: Which) -> Iterator[dict[str, Any]]:
    """Rows as dicts; JSON lines keep their own keys, whatever other rows have."""
    own = None if dataset is None else getattr(dataset.backing, "records", None)
    if dataset is None or own is None:
        for table in _tables(plan, dataset, ids, which):
            yield from table.to_pylist()
        return
    places = dataset.positions(ids)
    for start in range(0, len(places), BLOCK):
        block = places[start : start + BLOCK]
        weights = _weights(plan, dataset.ids[block], which)
        for number, (id_, row) in enumerate(zip(dataset.ids[block].tolist(), own(block))):
            yield {**row, ID: id_, **({} if weights is None else {WEIGHT: float(weights[number])})}


def _id_type(pa: Any, ids: np.ndarray) -> Any:
    return pa.string() if ids.dtype.kind == "U" else pa.int64()


def _described(metadata: dict[bytes, bytes] | None, kinds: dict[str, str]) -> dict[bytes, bytes] | None:
    """The Hugging Face description of the columns, with ours in it: name -> Arrow type."""
    if not metadata or b"huggingface" not in metadata:
        return metadata
    described = json.loads(metadata[b"huggingface"])
    names = {"float": "float32"}  # Arrow's word for it
    for name, kind in kinds.items():
        described["info"]["features"][name] = {"dtype": names.get(kind, kind), "_type": "Value"}
    return {**metadata, b"huggingface": json.dumps(described).encode()}


def _id_table(plan: Plan, which: Which) -> Any:
    pa = require("pyarrow", "data")
    parts: dict[str, list[Any]] = {ID: [], "group": []}
    last = WEIGHT if which == "kept" else "reason"
    parts[last] = []
    for name in plan.groups:
        ids = plan.keep(name) if which == "kept" else plan.dropped(name)
        parts[ID] += ids.tolist()
        parts["group"] += [name] * ids.size
        weights = _weights(plan, ids, which)
        kept = [None] * ids.size if weights is None else weights.tolist()
        parts[last] += kept if which == "kept" else _reasons(plan, name, ids.size)
    return pa.table(
        {name: values for name, values in parts.items() if any(value is not None for value in values) or name == ID}
    )


def _weights(plan: Plan, ids: np.ndarray, which: Which) -> np.ndarray | None:
    """Loss weights of these rows, float32; None where the plan has none."""
    return plan.loss_weights(ids) if plan.weights and which == "kept" else None


def _reasons(plan: Plan, group: str, size: int) -> list[str | None]:
    codes = plan.reasons.get(group)
    return [None] * size if codes is None else [plan.reason_names[code] for code in codes.tolist()]


def _csv(path: Path, tables: Iterator[Any]) -> None:
    csv, pa = require("pyarrow.csv", "data"), require("pyarrow", "data")
    first = next(tables)
    deep = [field.name for field in first.schema if pa.types.is_nested(field.type) or pa.types.is_binary(field.type)]
    if deep:
        raise BadInput(f"columns {deep} hold bytes or nested values, which CSV can't: export as parquet")
    with csv.CSVWriter(str(path), first.schema) as writer:
        _write_blocks(writer, first, tables)


def _parquet(path: Path, tables: Iterator[Any]) -> None:
    pq = require("pyarrow.parquet", "data")
    first = next(tables)
    with pq.ParquetWriter(str(path), first.schema, write_page_checksum=True) as writer:
        _write_blocks(writer, first, tables)


def _write_blocks(writer: Any, first: Any, rest: Iterator[Any]) -> None:
    writer.write_table(first)
    for table in rest:
        try:
            fitting = table.select(first.column_names).cast(first.schema)
        except (KeyError, ValueError) as error:  # JSON lines whose later rows have other columns or types
            raise BadInput(f"rows do not have the same columns throughout ({error}): export as jsonl") from error
        writer.write_table(fitting)


def _jsonl(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(_json_line(row))


def _json_line(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False) + "\n"
    except TypeError as error:
        raise BadInput(f"a row holds what JSON can't ({error}): export as parquet") from error


def _symlinks(dataset: Dataset | None, ids: np.ndarray, path: Path) -> Path:
    """The image folder again, with links to the kept files in the same class folders."""
    backing = None if dataset is None else dataset.backing
    if dataset is None or not isinstance(backing, FolderRows):
        raise BadInput("symlinks need the image folder the plan was made for; for tables export as parquet")
    if "file" not in backing.protocols():
        raise BadInput(f"links can't point into {backing.root.path}: it is not on a local disk")
    kept = [backing.files[place] for place in dataset.positions(ids).tolist()]
    folders = [path / name for name in backing.classes or ()]

    def build(target: Path) -> None:
        for folder in folders:
            (target / folder.name).mkdir(parents=True)
        for file in kept:
            link = target / file.relative
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.abspath(file.path))

    empty = {folder.name for folder in folders} - {file.relative.split("/")[0] for file in kept}
    if empty:
        warnings.warn(
            f"no file is left of {sorted(empty)[:5]}; their empty folders keep class numbers as they were", stacklevel=3
        )
    return _folder(path, build)


def _folder(path: Path, build: Callable[[Path], None]) -> Path:
    """Build a folder beside `path` and rename it; an old one goes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        build(temporary)
        temporary.chmod(0o755)
        if path.exists() or path.is_symlink():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.replace(path, old / "old")
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise ResourceError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def read_ids(path: str | Path, like: Dataset | np.ndarray | None = None) -> np.ndarray:
    """The ids in a file that `export` or anyone wrote: txt (one a line), npy, or csv, parquet, jsonl with a column of ids.

    Args:
        path: the column is `prunus_id`, else `id`, else the only one.
        like: the ids they must be among; text and numbers are brought to its type, and strangers are refused.

    Returns:
        int64 or unicode `[n]`, sorted, each once.

    Raises:
        BadInput: no such file, or no column of ids.
        IdMismatch: ids that are not in `like`.
    """
    found = ids_in(Path(path))
    if like is not None:
        known = like.ids if isinstance(like, Dataset) else np.asarray(like)
        found = _as_type(found, known, path)
        strangers = np.setdiff1d(found, known)
        if strangers.size:
            raise IdMismatch(f"{strangers.size} ids of {path} are not in the data, such as {strangers[:5].tolist()}")
    elif found.dtype.kind == "U" and all(_is_number(text) for text in found.tolist()):
        found = found.astype(np.int64)
    return np.unique(found)


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return (
        digits.isdecimal() and digits.isascii() and (digits == "0" or not digits.startswith("0")) and len(digits) < 19
    )


def _as_type(found: np.ndarray, known: np.ndarray, path: str | Path) -> np.ndarray:
    if found.dtype.kind == known.dtype.kind or found.size == 0:
        return found
    if known.dtype.kind == "U":
        return found.astype(np.str_)
    odd = [text for text in found.tolist() if not _is_number(text)]
    if odd:
        raise IdMismatch(f"ids of the data are numbers, but {path} holds {odd[:5]}")
    return found.astype(np.int64)
