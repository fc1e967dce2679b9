"""open_data: one entry for every kind of rows: files and folders, URLs, hub data sets, data that packages bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

import numpy as np

from prunus.core.errors import BadInput, CorruptFile, UnknownName
from prunus.prunables import arrow
from prunus.prunables.backings import Backing, backing_of
from prunus.prunables.dataset import Dataset
from prunus.prunables.images import Normalise, Preprocess
from prunus.prunables.roles import Role
from prunus.sources.folder import SUFFIXES, FolderRows
from prunus.sources.held import csv_rows, named_rows, npz_rows, sklearn_rows, text_rows
from prunus.sources.hub import hub_rows
from prunus.sources.jsonl import JsonRows
from prunus.sources.location import Location, locate
from prunus.sources.parquet import ParquetRows, Reader
from prunus.sources.scan import broken_rows

KINDS = (
    ".parquet, .jsonl, .csv, .tsv, .npz, .npy, .txt, a folder of parquet files, a folder of images, "
    "datasets:NAME, sklearn:NAME"
)
EXPORTED, WEIGHT = "prunus_id", "prunus_weight"
OPTIONS = ("id", "label", "image", "text", "x", "split", "limit", "role", "size", "normalise")


@dataclass
class Opened:
    """A backing and what its source says about it."""

    backing: Backing
    name: str
    classes: Sequence[str] | None = None
    bad_ids: Sequence[str] = ()


def open_data(
    spec: Any,
    *,
    id: str | None = None,
    label: str | None = None,
    image: str | None = None,
    text: str | None = None,
    x: str | Sequence[str] | None = None,
    role: Role | str = "fit",
    limit: int | None = None,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    normalise: Normalise = None,
    fit: Literal["crop", "squash"] = "crop",
    mode: Literal["RGB", "L"] = "RGB",
    quarantine: bool = False,
    name: str = "",
    by: Literal["all", "class"] = "all",
) -> Dataset:
    """Open rows.

    Args:
        spec: a path or fsspec URL; `datasets:NAME` (hub name, or a folder that `save_to_disk` wrote); `sklearn:digits`;
            or any object that Dataset wraps. Options may follow a question mark: `train.parquet?label=fine`.
        id: the column of ids; `img.path` reaches into a struct. Default: `prunus_id`, which exports write; else file:row, or
            the path in an image folder. A column `prunus_weight` becomes the loss weights.
        label: the label column; default the declared class column, else one named label, if there is one.
        image: the image column; default the declared one, else one that holds {bytes, path}.
        text: the text column; default one named text.
        x: other input column(s): numbers, or several numeric columns joined to `[n, k]`.
        role: fit, val, test or train.
        limit: the first rows only.
        split: of a hub data set.
        classes: class names; give the training set's to its test set.
        size: resize images to this height and width.
        normalise: imagenet, half, none or (mean, std).
        fit: crop the longer side, or squash.
        mode: RGB or L.
        quarantine: read every row once, leave the unreadable ones out and name them in `.quarantined`.
        name: for messages and reports.
        by: one group of all rows, or one for each class.

    Returns:
        A Dataset that reads rows when they are asked for.

    Raises:
        BadInput: no such file or column (the nearest names are given), or duplicate ids.
        CorruptFile: truncated or hostile files; without `quarantine` also rows that can't be read.
    """
    if isinstance(spec, Dataset):
        return spec
    spec, given = _with_options(spec)
    if given:
        merged = {"id": id, "label": label, "image": image, "text": text, "x": x, "role": role, "limit": limit} | given
        rest: dict[str, Any] = {
            "split": split,
            "classes": classes,
            "size": size,
            "normalise": normalise,
            "fit": fit,
            "mode": mode,
        }
        return open_data(spec, **(rest | merged), quarantine=quarantine, name=name, by=by)  # pyright: ignore[reportArgumentType]
    opened = _opened(spec, split=split, quarantine=quarantine)
    columns = _columns(opened.backing, label=label, image=image, text=text, x=x)
    bad_ids = list(opened.bad_ids)
    if quarantine:
        opened.backing, more = _without_broken(opened.backing, columns["image"], opened.name)
        bad_ids += more
    data = Dataset(
        opened.backing,
        ids=id or (EXPORTED if EXPORTED in opened.backing.names() else None),
        role=role,
        x=columns["x"],
        label=columns["label"],
        text=columns["text"],
        classes=classes if classes is not None else opened.classes,
        preprocess=Preprocess.of(size=size, normalise=normalise, fit=fit, mode=mode)
        if columns["image"] or size or normalise
        else None,
        name=name or opened.name,
        by=by,
    )
    data.quarantined = tuple(bad_ids)
    data.loss_weights = _weights(opened.backing)
    return data if limit is None else data.select(np.arange(min(_limit(limit), len(data))))


def _weights(backing: Backing) -> np.ndarray | None:
    """The loss weights that an export wrote beside the rows, float32 `[n]`."""
    found = backing.column(WEIGHT) if WEIGHT in backing.names() else None
    return None if found is None else np.asarray(found, dtype=np.float32)


def _limit(limit: int) -> int:
    if limit < 1:
        raise BadInput(f"limit must be at least 1 row, not {limit}")
    return limit


def _with_options(spec: Any) -> tuple[Any, dict[str, Any]]:
    """Options behind a question mark; a URL of a web server keeps its own query."""
    if not isinstance(spec, str) or "?" not in spec or spec.startswith(("http://", "https://")):
        return spec, {}
    base, _, query = spec.partition("?")
    options: dict[str, Any] = {}
    for key, value in parse_qsl(query, strict_parsing=False):
        if key not in OPTIONS:
            raise UnknownName(f"option (in {spec!r})", key, OPTIONS)
        options[key] = int(value) if key in ("limit", "size") else value
    return base, options


def _opened(spec: Any, *, split: str | None, quarantine: bool) -> Opened:
    if isinstance(spec, Path):
        spec = str(spec)
    if not isinstance(spec, str):
        return Opened(backing_of(spec), type(spec).__name__)
    scheme, _, rest = spec.partition(":")
    if scheme == "sklearn":
        backing, classes = sklearn_rows(rest)
        return Opened(backing, spec, classes)
    if scheme == "datasets":
        return Opened(hub_rows(rest, split=split), rest)
    place = locate(spec)
    return _folder(place) if place.is_folder() else _file(place, quarantine=quarantine)


def _file(file: Location, *, quarantine: bool) -> Opened:
    if file.suffix == ".parquet":
        return Opened(ParquetRows(Reader([file])), file.relative)
    if file.suffix in (".jsonl", ".ndjson"):
        return Opened(JsonRows(file), file.relative)
    if file.suffix in (".csv", ".tsv"):
        backing, bad = csv_rows(file, quarantine=quarantine, delimiter="\t" if file.suffix == ".tsv" else ",")
        return Opened(backing, file.relative, bad_ids=bad)
    if file.suffix in (".npz", ".npy"):
        return Opened(npz_rows(file), file.relative)
    if file.suffix == ".txt":
        return Opened(text_rows(file), file.relative)
    raise BadInput(f"{file.path}: can't tell what kind of rows {file.suffix or 'no suffix'} holds; known: {KINDS}")


def _folder(folder: Location) -> Opened:
    if folder.fs.exists(f"{folder.path}/state.json") or folder.fs.exists(f"{folder.path}/dataset_dict.json"):
        return Opened(hub_rows(folder.path, split=None), folder.relative)
    files = folder.files(".parquet")
    if files:
        return Opened(ParquetRows(Reader(files)), folder.relative)
    if folder.files(*SUFFIXES):
        return Opened(FolderRows(folder), folder.relative)
    kinds = sorted({file.suffix for file in folder.files()})
    raise BadInput(
        f"{folder.path} holds neither parquet files nor images (suffixes found: {kinds or 'none'}); known: {KINDS}"
    )


def _columns(backing: Backing, *, label: str | None, image: str | None, text: str | None, x: Any) -> dict[str, Any]:
    """Columns asked for (checked), and declared or usual ones where none was asked for."""
    names = backing.names()
    wanted = [label, image, text, *((x,) if isinstance(x, str) else x or ())]
    for name in wanted:
        if name and names and name not in names:
            raise UnknownName("column", name, names)
    metadata = getattr(backing, "metadata", None)
    if image is None and x is None:
        image = next(iter([*arrow.typed_columns(metadata, "Image"), *_image_columns(backing)]), None)
    if label is None:
        declared = arrow.typed_columns(metadata, "ClassLabel")
        label = declared[0] if len(declared) == 1 else ("label" if "label" in names else None)
    if text is None:
        text = "text" if "text" in names else None
    return {"label": label, "image": image, "text": text, "x": x or image}


def _image_columns(backing: Backing) -> list[str]:
    if isinstance(backing, FolderRows):
        return ["image"]
    schema = getattr(backing, "schema", None)
    if schema is None:
        return []
    structs = [field for field in schema if getattr(field.type, "num_fields", 0) == 2]
    return [field.name for field in structs if {child.name for child in field.type} == {"bytes", "path"}]


def _without_broken(backing: Backing, image: str | None, name: str) -> tuple[Backing, list[str]]:
    broken = broken_rows(backing, [image] if image else None)
    if not broken:
        return backing, []
    if len(broken) == len(backing):
        raise CorruptFile(f"no row of {name} can be read; the first: {next(iter(broken.values()))}")
    default = getattr(backing, "default_ids", None)
    places = np.array(list(broken), dtype=np.int64)
    ids = default()[places] if default is not None else named_rows(name, places)
    return backing.select(np.setdiff1d(np.arange(len(backing)), places)), ids.tolist()
