"""The data stage: every role's rows, read and decoded once, as plain arrays that the other stages map into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core import files
from prunus.core.errors import BadInput, UnknownName
from prunus.core.rng import Rng, torch_rng
from prunus.prunables.dataset import Dataset
from prunus.prunables.images import Preprocess
from prunus.prunables.label_noise import symmetric
from prunus.run.outside import placed
from prunus.sources.models import open_tokenizer
from prunus.sources.open import open_data
from prunus.sources.text import open_text, text_record
from prunus.train.canvas import Canvas

Params = dict[str, Any]
Arrays = dict[str, np.ndarray]
ROLES = ("fit", "val", "test")
LEAST_TO_SPLIT = 20  # rows of fit, for a val split that nobody asked for in so many words


def write_rows(inputs: Mapping[str, Path], params: Params, out: Path) -> None:
    """`data.json` and one `<role>.safetensors` for each role: ids, labels, and pixels, numbers or tokens."""
    roles = _roles(params)
    facts: dict[str, Any] = {}
    for role, data in roles.items():
        arrays = _arrays(data, params, role)
        noise = _with_noise(arrays, params) if role == "fit" else {}
        files.write_arrays(out / f"{role}.safetensors", arrays)
        facts[role] = {"rows": len(arrays["ids"]), **noise, **(text_record(data) if params.get("window") else {})}
    classes = next((list(data.classes) for data in roles.values() if data.classes), None)
    kept = None if params.get("transform") else _preprocess(roles["fit"])
    files.write_json(
        out / "data.json", {"roles": facts, "classes": classes, "preprocess": kept, "name": params["source"]}
    )


def read_rows(folder: Path, role: str) -> Dataset:
    """The rows of one role, as `write_rows` left them.

    Raises:
        BadInput: the recipe gives this role no rows.
    """
    head = files.read_json(folder / "data.json")
    if role not in head["roles"]:
        raise BadInput(f"the data {head['name']!r} have no rows of role {role}: give their table {role} = {{ ... }}")
    arrays = files.read_arrays(folder / f"{role}.safetensors")
    if "tokens" in arrays:
        windows = arrays["tokens"].astype(np.int64)
        columns = {"input_ids": windows, "labels": windows.copy()}
        return Dataset(columns, ids=arrays["ids"], role=role, name=head["name"])
    labels = arrays.get("labels")
    return Dataset(
        arrays["x"] if labels is None else (arrays["x"], labels),
        ids=arrays["ids"],
        role=role,
        classes=head["classes"],
        preprocess=_preprocess_of(head["preprocess"]),
        name=head["name"],
    )


def limited(data: Dataset, limit: int | None, purpose: str) -> Dataset:
    """At most `limit` rows, drawn by a hash of `purpose` and id: the same ones whatever order the rows lie in."""
    if limit is None or limit >= len(data):
        return data
    return data.select(Rng(0, purpose).sample(data.ids, limit))


def _with_noise(arrays: Arrays, params: Params) -> dict[str, Any]:
    """Put wrong labels into the rows of fit where the recipe asks for them, keep the right ones beside; says how many there are."""
    share = params.get("label_noise", 0.0)
    if not share:
        return {}
    if "labels" not in arrays:
        raise BadInput(f"label_noise = {share} needs labels, and the rows of {params['source']} have none")
    clean = arrays["labels"]
    arrays["clean_labels"] = clean
    arrays["labels"] = symmetric(clean, arrays["ids"], share, Rng(0, "label noise"))
    return {"label_noise": share, "wrong_labels": int((arrays["labels"] != clean).sum())}


def _roles(params: Params) -> dict[str, Dataset]:
    """The datasets of the roles: from their own source, or by a share of the rows of fit."""
    found: dict[str, Dataset] = {"fit": _opened(params, params["source"], "fit")}
    for role in ("test", "val"):
        table = params.get(role)
        if not table:
            continue
        if table["source"]:
            found[role] = _opened(params, table["source"], role, found["fit"].classes)
        elif table["share"]:
            if role == "val" and len(found["fit"]) < LEAST_TO_SPLIT:
                continue  # a handful of calibration windows is not worth splitting
            found["fit"], found[role] = found["fit"].split(table["share"], role)
        elif table["limit"]:
            raise BadInput(f"{role} has a limit and no rows: add share = 0.1 (of the rows of fit) or source = ...")
    for role, data in found.items():
        found[role] = limited(data, (params.get(role) or {}).get("limit"), f"limit/{role}")
    return {role: found[role] for role in ROLES if role in found}


def _opened(params: Params, source: str, role: str, classes: Sequence[str] | None = None) -> Dataset:
    """The rows of a source; `classes` are those of fit, so that the same name has the same number in every role."""
    if params.get("window"):
        if not params["tokenizer"]:
            raise BadInput("text rows need tokenizer = ... beside window: the model's source, or 'bytes'")
        # Of a text the first windows, as everyone counts perplexity; the limit of other rows is a draw by id.
        limit = (params.get(role) or {}).get("limit")
        tokenizer = open_tokenizer(params["tokenizer"])
        return open_text(placed(source), tokenizer, length=params["window"], role=role, limit=limit)
    normalise = params["normalise"] or None
    return open_data(
        placed(source),
        id=params["id"] or None,
        label=params["label"] or None,
        image=params["image"] or None,
        text=params["text"] or None,
        x=list(params["x"]) or None,
        role=role,
        split=params["split"] or None,
        classes=classes,
        size=params["size"],
        normalise=normalise if normalise is None or isinstance(normalise, str) else (normalise[0], normalise[1]),
        mode=params["mode"],
    )


def _arrays(data: Dataset, params: Params, role: str) -> Arrays:
    """Every row of a role as arrays by name: ids, and tokens `[n, window]` int32, or x with the labels if there are any."""
    if params.get("window"):
        windows = np.stack([np.asarray(data[place]["input_ids"]) for place in range(len(data))])
        return {"ids": data.ids, "tokens": windows.astype(np.int32)}
    if params.get("transform"):
        return _placed(_inputs(data), data, params["transform"], role)
    arrays: Arrays = {"ids": data.ids, "x": _inputs(data).numpy() if data.preprocess is None else _pixels(data)}
    return arrays if data.labels is None else {**arrays, "labels": data.labels}


def _inputs(data: Dataset) -> Tensor:
    """What the model is given, of all rows: `[n, ...]`."""
    parts: list[Tensor] = []
    for batch in data.batches(1024):
        x = None if isinstance(batch, dict) else batch[1]
        if not isinstance(x, Tensor):
            raise BadInput(
                f"no column of {data.name} is a model's input: say x = ... or image = ... in the data's table"
            )
        parts.append(x)
    return torch.cat(parts)


def _pixels(data: Dataset) -> np.ndarray:
    """Images decoded and sized, not normalised: uint8 `[n, channels, height, width]`."""
    native = data.cache(data.preprocess.size if data.preprocess else None).unwrapped()
    return np.asarray(native[0] if isinstance(native, tuple) else native)


def _placed(x: Tensor, data: Dataset, transform: Params, role: str) -> Arrays:
    """Small images on noisy canvases; rows of fit `copies` times, each at other places: ids end in `/0`, `/1`, ..."""
    if transform["name"] != "canvas":
        raise UnknownName("transform of data", transform["name"], ("canvas",))
    options = {"copies": 1, **transform["options"]}
    known = {"copies", *(field.name for field in fields(Canvas))}
    if unknown := sorted(options.keys() - known):
        raise UnknownName("option of the canvas", unknown[0], known)
    asked = int(options.pop("copies"))
    copies = asked if role == "fit" else 1
    canvas = Canvas(**options)
    side = (canvas.digit, canvas.digit)
    digits = torch.nn.functional.interpolate(x, size=side, mode="bilinear", align_corners=False).repeat(copies, 1, 1, 1)
    ids = np.tile(np.asarray(data.ids).astype(str), copies)
    numbers = np.repeat(np.arange(copies), len(data)).astype(str)
    arrays = {"x": canvas(digits, torch_rng(0, f"canvas/{role}")).numpy()}
    arrays["ids"] = ids if copies == 1 else np.char.add(np.char.add(ids, "/"), numbers)
    if data.labels is not None:
        arrays["labels"] = np.tile(data.labels, copies)
    return arrays


def _preprocess(data: Dataset) -> Params | None:
    """How the written pixels become inputs; their size is what it should be already."""
    return None if data.preprocess is None else asdict(data.preprocess)


def _preprocess_of(saved: Params | None) -> Preprocess | None:
    if saved is None:
        return None
    mean, std = (None if saved[name] is None else tuple(saved[name]) for name in ("mean", "std"))  # JSON has lists only
    return Preprocess(fit=saved["fit"], mode=saved["mode"], mean=mean, std=std)
