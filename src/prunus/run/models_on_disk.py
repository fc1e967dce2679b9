"""Stages that make models: new or given ones, training, cutting, recovery.

A model's folder holds what rebuilds and fills it: `model.json` (how the dense model is constructed), `config/` for models that have
one, the plans that were applied, and the weights. Every later stage carries the first two on.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core import files, registry
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Plan
from prunus.core.score import Score
from prunus.flow import save as saved
from prunus.flow.calls import asks_for
from prunus.flow.proof import prove
from prunus.flow.recover import recover
from prunus.prunables.combined import combine
from prunus.prunables.dataset import Dataset
from prunus.recovery.combine import cropped
from prunus.recovery.distill import lessons
from prunus.rows.dynamic import Dynamic
from prunus.run.folder import TRAINING
from prunus.run.outside import placed
from prunus.run.rows_on_disk import limited, read_rows
from prunus.sources.models import open_model
from prunus.train.augment import flip, shift
from prunus.train.engine import Augment
from prunus.train.loop import fit

Inputs = Mapping[str, Path]
Params = dict[str, Any]
MADE, CONFIG = "model.json", "config"
AUGMENTATIONS: dict[str, Augment] = {
    "flip": flip,
    "shift": partial(shift, pixels=2),
    "shift4": partial(shift, pixels=4),
}


def make_model(inputs: Inputs, params: Params, out: Path) -> None:
    """A model from its constructor, with given weights or new ones from the seed."""
    weights = params["weights"]
    if weights and weights not in ("random", "pretrained"):
        weights = placed(weights)
    model = open_model(
        params["source"],
        dtype=params["dtype"] if params["dtype"] != "float32" else None,
        num_classes=params["classes"],
        weights=weights or ("random" if "seed" in params else None),
        seed=params.get("seed", 0),
        options=params["options"],
    )
    _write_new(model, params, out)


def write_model(model: nn.Module, plans: list[Plan], out: Path, *, made: Params) -> None:
    """A model's folder: weights, plans, and how its dense constructor is called (source, classes, options)."""
    files.write_json(out / MADE, {name: made[name] for name in ("source", "classes", "options")})
    saved.save(model, plans, out)


def _write_new(model: nn.Module, params: Params, out: Path) -> None:
    """The first folder of a model: its own config too, where it has one."""
    config: Any = copy.deepcopy(getattr(model, "config", None))
    if hasattr(config, "save_pretrained"):
        config.architectures = [type(model).__name__]
        config.save_pretrained(out / CONFIG)
    write_model(model, [], out, made=params)


def _write_next(model: nn.Module, plans: list[Plan], out: Path, *, source: Path) -> None:
    """The folder of a model that was made from the one in `source` by training, or by the last of `plans`."""
    shutil.copyfile(source / MADE, out / MADE)
    if (source / CONFIG).is_dir():
        shutil.copytree(source / CONFIG, out / CONFIG)
    saved.save(model, plans, out)
    saved.add_got(out, **{name: value for name, value in saved.got(source).items() if name not in saved.got(out)})


def read_model(folder: Path) -> nn.Module:
    """The model of a folder, in evaluation mode.

    Raises:
        CorruptFile: the folder is not whole.
    """
    return saved.load(folder, constructed(folder))


def plans_of(folder: Path) -> list[Plan]:
    """The plans that were applied to the model of a folder, in order."""
    count = int(files.read_json(folder / saved.APPLIED)["plans"])
    return [Plan.load(folder / f"plan-{number}") for number in range(count)]


def constructed(folder: Path, seed: int = 0) -> nn.Module:
    """The dense model of a folder with new weights, as its own constructor draws them."""
    if (folder / CONFIG).is_dir():
        return open_model(f"transformers:{folder / CONFIG}", weights="random", seed=seed)
    made = files.read_json(folder / MADE)
    return open_model(made["source"], num_classes=made["classes"], weights="random", options=made["options"], seed=seed)


def train(inputs: Inputs, params: Params, out: Path) -> None:
    """The model after training on the rows that stay, and `training.json`: rows presented, steps, CPU-seconds, alpha."""
    whole = read_rows(inputs["data"], "fit")
    rows = Plan.load(inputs["plan"]).apply(whole) if "plan" in inputs else whole
    model = read_model(inputs["model"])
    length = _length(params, len(whole))
    chosen = dynamic(params.get("dynamic"), rows, params["seed"])
    taught: Params = {}
    if "teacher" in inputs:  # rows chosen while training may all be seen, so the share kept is that of the plan
        teacher, share = read_model(inputs["teacher"]), len(rows) / len(whole)
        taught = lessons(model, teacher, kept=share, **params["teacher"])
    settings = fit_settings(params)
    if (table := params.get("combine")) is not None:
        rows = combine(rows, factor=table["factor"], score=Score.load(inputs["score"]) if "score" in inputs else None)
        crop: Params = {"within": table["within"], "scale": tuple(table["scale"]), "ratio": tuple(table["ratio"])}
        settings["augment"] = cropped(table["factor"], **crop, then=settings["augment"])
    history = fit(model, rows, seed=params["seed"], dynamic=chosen, **length, **taught, **settings)
    _write_next(model, [], out, source=inputs["model"])
    facts = {"samples": history.samples, "steps": history.steps, "cpu_seconds": history.cpu_seconds}
    files.write_json(out / TRAINING, facts | ({"alpha": taught["distill"]} if taught else {}))


def fit_settings(params: Params) -> dict[str, Any]:
    """Arguments of `train.fit` from a train or recover table."""
    names = ("batch", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule", "warmup")
    settings = {name: params[name] for name in names if name in params}
    return {**settings, "augment": augmentation(params["augment"]), "channels_last": True, "progress": False}


def _length(params: Params, rows: int) -> dict[str, int]:
    """Epochs of the rows given, or, where subsets get equal steps, the steps of the whole set."""
    if params["steps"]:
        return {"steps": params["steps"]}
    if params["equal"] == "epochs":
        return {"epochs": params["epochs"]}
    return {"steps": params["epochs"] * -(-rows // params["batch"])}


def augmentation(names: list[str]) -> Augment | None:
    """The named augmentations one after the other, or None.

    Raises:
        UnknownName: no such augmentation.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise UnknownName("augmentation", name, AUGMENTATIONS)
    if not names:
        return None

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        for name in names:
            x = AUGMENTATIONS[name](x, generator)
        return x

    return apply


def dynamic(table: Params | None, rows: Dataset, seed: int) -> Dynamic | None:
    """The method that chooses the rows of each epoch, by the recipe's `method` and `budget`; None without a table."""
    if not table:
        return None
    method = registry.find(table["method"]["name"], unit="rows", kind="dynamic")
    if "count" not in method.keywords:
        raise BadInput(
            f"{method.id} decides from losses how many rows an epoch has, so it has no budget: use it with px.fit(dynamic=)"
        )
    count = Budget.parse(table["budget"]).count(len(rows))
    return method.load()(rows.ids, seed=seed, count=count, **table["method"]["options"])


def apply_plan(inputs: Inputs, params: Params, out: Path) -> None:
    """The model with only what stays; a cut of channels is proved, and its error told in `applied.json`."""
    model, plan = read_model(inputs["model"]), Plan.load(inputs["plan"])
    before = plans_of(inputs["model"])
    small = plan.apply(model, mode=params["mode"])
    _write_next(small, [*before, plan], out, source=inputs["model"])
    if plan.unit == "channels":
        saved.add_got(out, mask_equivalence_error=prove(model, plan))


def recover_model(inputs: Inputs, params: Params, out: Path) -> None:
    """The model after its recoveries, in the order of the recipe."""
    rows = read_rows(inputs["data"], "fit")
    if "rows" in inputs:
        rows = Plan.load(inputs["rows"]).apply(rows)
    rows = limited(rows, params["limit"], "limit/recover")
    model, dense = read_model(inputs["model"]), read_model(inputs["dense"])
    plan = Plan.load(inputs["plan"]) if "plan" in inputs else None
    for choice in params["how"]:
        settings = {**_recovery_settings(choice["name"], params), **choice["options"]}
        model = recover(model, data=rows, how=choice["name"], plan=plan, teacher=dense, inplace=True, **settings)
    _write_next(model, plans_of(inputs["model"]), out, source=inputs["model"])


def _recovery_settings(name: str, params: Params) -> Params:
    """What the recover table says that this recovery has: everything where it trains, the batch where it only reads."""
    if not asks_for(registry.find(name, kind="recovery").load(), "epochs"):
        return {"batch": params["batch"]}
    length = {key: params[key] for key in ("epochs", "steps") if params[key] is not None}
    return {**fit_settings(params), **length, "seed": params["seed"]}
