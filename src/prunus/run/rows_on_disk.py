"""The data stage: every role's rows, read and decoded once, as plain arrays that the other stages map into memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prunus.core import files
from prunus.core.errors import BadInput, UnknownName
from prunus.core.rng import Rng, torch_rng
from prunus.prunables.dataset import Dataset
from prunus.prunables.images import Preprocess
from prunus.run.outside import placed
from prunus.sources.models import open_tokenizer
from prunus.sources.open import open_data
from prunus.sources.text import open_text, text_record
from prunus.train.canvas import Canvas

ROLES = ("fit", "val", "test")


def write_rows(inputs: Mapping[str, Path], params: dict[str, Any], out: Path) -> None:
    """`data.json` and one `<role>.safetensors` for each role: ids, labels, and pixels, numbers or tokens."""
    head: dict[str, Any] = {"roles": {}, "classes": None, "preprocess": None, "name": params["source"]}
    for role, data in _roles(params).items():
        arrays, facts = _arrays(data, params, role)
        files.write_arrays(out / f"{role}.safetensors", arrays)
        head["roles"][role] = {"rows": len(data), **facts}
        head["classes"] = list(data.classes) if data.classes else head["classes"]
        head["preprocess"] = _preprocess(data)
    files.write_json(out / "data.json", head)


def read_rows(folder: Path, role: str) -> Dataset:
    """The rows of one role, as `write_rows` left them."""
    head = files.read_json(folder / "data.json")
    if role not in head["roles"]:
        raise BadInput(
            f"the recipe's data {head['name']!r} has no rows of role {role}: give the table a {role} = {{ ... }}"
        )
    arrays = files.read_arrays(folder / f"{role}.safetensors")
    if "tokens" in arrays:
        windows = arrays["tokens"].astype(np.int64)
        columns = {"input_ids": windows, "labels": windows.copy()}
        return Dataset(columns, ids=arrays["ids"], role=role, name=head["name"])
    process = Preprocess(**_tuples(head["preprocess"])) if head["preprocess"] else None
    labels = arrays.get("labels")
    return Dataset(
        (arrays["x"], labels) if labels is not None else arrays["x"],
        ids=arrays["ids"], role=role, classes=head["classes"], preprocess=process, name=head["name"],
    )  # fmt: skip


def limited(data: Dataset, limit: int | None, purpose: str) -> Dataset:
    """At most `limit` rows, drawn by id."""
    if limit is None or limit >= len(data):
        return data
    return data.select(Rng(0, purpose).sample(data.ids, limit))


def _roles(params: dict[str, Any]) -> dict[str, Dataset]:
    """The datasets of the roles: from their own source, or by a share of the rows of fit."""
    found: dict[str, Dataset] = {"fit": _opened(params, params["source"], "fit")}
    for role in ("test", "val"):
        table = params.get(role)
        if not table:
            continue
        if table["source"]:
            found[role] = _opened(params, table["source"], role)
        elif table["share"]:
            if role == "val" and len(found["fit"]) < 20:
                continue  # a handful of calibration windows is not worth splitting
            found["fit"], found[role] = found["fit"].split(table["share"], role)
    for role, data in found.items():
        found[role] = limited(data, (params.get(role) or {}).get("limit"), f"limit/{role}")
    return {role: found[role] for role in ROLES if role in found}


def _opened(params: dict[str, Any], source: str, role: str) -> Dataset:
    if params.get("window"):
        if not params["tokenizer"]:
            raise BadInput("text rows need tokenizer = ... beside window: the model's source, or 'bytes'")
        return open_text(placed(source), open_tokenizer(params["tokenizer"]), length=params["window"], role=role)
    options = {name: params[name] or None for name in ("id", "label", "image", "text", "split", "size")}
    options |= {"x": list(params["x"]) or None, "normalise": _normalise(params["normalise"]), "mode": params["mode"]}
    return open_data(placed(source), role=role, **options)


def _normalise(value: Any) -> Any:
    return tuple(map(tuple, value)) if isinstance(value, list | tuple) else value or None


def _arrays(data: Dataset, params: dict[str, Any], role: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if params.get("window"):
        windows = np.stack([np.asarray(row["input_ids"]) for row in (data[i] for i in range(len(data)))])
        return {"ids": data.ids, "tokens": windows.astype(np.int32)}, text_record(data)
    if data.preprocess is not None:
        data = data.cache(data.preprocess.size)
        native = data.unwrapped()
        pixels = np.asarray(native[0] if isinstance(native, tuple) else native)
        arrays = {"ids": data.ids, "x": pixels}
    else:
        x = torch.cat([batch[1] for batch in data.batches(1024)])
        if params.get("transform"):
            return _placed(x, data, params["transform"], role), {}
        arrays = {"ids": data.ids, "x": x.numpy()}
    if data.labels is not None:
        arrays["labels"] = data.labels
    return arrays, {}


def _placed(x: torch.Tensor, data: Dataset, transform: dict[str, Any], role: str) -> dict[str, np.ndarray]:
    """Small images on noisy canvases; rows of fit `copies` times, each at other places: ids end in `/0`, `/1`, ..."""
    if transform["name"] != "canvas":
        raise UnknownName("transform of data", transform["name"], ("canvas",))
    options = dict(transform["options"])
    copies = int(options.pop("copies", 1))
    copies = copies if role == "fit" else 1
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


def _preprocess(data: Dataset) -> dict[str, Any] | None:
    if data.preprocess is None:
        return None
    p = data.preprocess
    return {"size": None, "fit": p.fit, "mode": p.mode, "mean": p.mean, "std": p.std}


def _tuples(value: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
