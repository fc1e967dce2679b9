"""Stages that make models: new or given ones, training, cutting, recovery. A model's folder holds what rebuilds and fills it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core import files, registry
from prunus.core.budget import Budget
from prunus.core.errors import UnknownName
from prunus.core.plan import Plan
from prunus.flow import save as saved
from prunus.flow.proof import prove
from prunus.flow.recover import recover
from prunus.prunables.dataset import Dataset
from prunus.run.outside import placed
from prunus.run.rows_on_disk import limited, read_rows
from prunus.sources.models import open_model
from prunus.train.augment import flip, shift
from prunus.train.loop import fit

Inputs = Mapping[str, Path]
Params = dict[str, Any]


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
    write_model(model, [], out, made=params)


def write_model(model: nn.Module, plans: list[Plan], out: Path, *, made: Params) -> None:
    """Weights, plans, and `model.json`, which says how to build the dense model."""
    files.write_json(out / "model.json", {name: made[name] for name in ("source", "classes", "options")})
    if hasattr(model, "config") and hasattr(model.config, "save_pretrained") and not plans:
        config = copy.deepcopy(model.config)
        config.architectures = [type(model).__name__]
        config.save_pretrained(out / "config")
    saved.save(model, plans, out)


def read_model(folder: Path) -> nn.Module:
    """The model of a folder, in evaluation mode."""
    return saved.load(folder, _constructed(folder))


def plans_of(folder: Path) -> list[Plan]:
    """The plans that were applied to the model of a folder, in order."""
    count = int(files.read_json(folder / saved.APPLIED)["plans"])
    return [Plan.load(folder / f"plan-{number}") for number in range(count)]


def _constructed(folder: Path) -> nn.Module:
    made = files.read_json(folder / "model.json")
    if (folder / "config").is_dir():
        return open_model(f"transformers:{folder / 'config'}", weights="random")
    return open_model(made["source"], num_classes=made["classes"], weights="random", options=made["options"])


def train(inputs: Inputs, params: Params, out: Path) -> None:
    """The model after training on the rows that stay."""
    whole = read_rows(inputs["data"], "fit")
    rows = Plan.load(inputs["plan"]).apply(whole) if "plan" in inputs else whole
    model = read_model(inputs["model"])
    length = _length(params, len(whole))
    chosen = dynamic(params.get("dynamic"), rows, params["seed"])
    history = fit(model, rows, seed=params["seed"], dynamic=chosen, **length, **fit_settings(params))
    write_model(model, [], out, made=files.read_json(inputs["model"] / "model.json"))
    _carry_config(inputs["model"], out)
    facts = {"samples": history.samples, "steps": history.steps, "cpu_seconds": history.cpu_seconds}
    files.write_json(out / "training.json", facts)


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


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "flip": flip,
    "shift": partial(shift, pixels=2),
}
AUGMENTATIONS["shift4"] = partial(shift, pixels=4)


def augmentation(names: list[str]) -> Callable[[Tensor, torch.Generator], Tensor] | None:
    """The named augmentations one after the other, or None."""
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


def dynamic(table: Params | None, rows: Dataset, seed: int) -> Any:
    """The method that chooses the rows of each epoch, or None."""
    if not table:
        return None
    method = registry.find(table["method"]["name"], unit="rows", kind="dynamic")
    count = Budget.parse(table["budget"]).count(len(rows))
    return method.load()(rows.ids, seed=seed, count=count, **table["method"]["options"])


def apply_plan(inputs: Inputs, params: Params, out: Path) -> None:
    """The model with only what stays."""
    model, plan = read_model(inputs["model"]), Plan.load(inputs["plan"])
    before = plans_of(inputs["model"])
    small = plan.apply(model, mode=params["mode"])
    write_model(small, [*before, plan], out, made=files.read_json(inputs["model"] / "model.json"))
    _carry_config(inputs["model"], out)
    if plan.unit == "channels":
        saved.add_got(out, mask_equivalence_error=prove(model, plan))


def _carry_config(source: Path, out: Path) -> None:
    if (source / "config").is_dir() and not (out / "config").exists():
        shutil.copytree(source / "config", out / "config")


def recover_model(inputs: Inputs, params: Params, out: Path) -> None:
    """The model after its recoveries, in the order of the recipe."""
    rows = read_rows(inputs["data"], "fit")
    if "rows" in inputs:
        rows = Plan.load(inputs["rows"]).apply(rows)
    rows = limited(rows, params["limit"], "limit/recover")
    model, dense = read_model(inputs["model"]), read_model(inputs["dense"])
    plan = Plan.load(inputs["plan"]) if "plan" in inputs else None
    for choice in params["how"]:
        trained = choice["name"] != "bn_stats"
        length = {name: params[name] for name in ("epochs", "steps") if trained and params[name] is not None}
        settings = {**fit_settings(params), "seed": params["seed"]} if trained else {"batch": params["batch"]}
        settings |= {**length, **choice["options"]}
        model = recover(model, data=rows, how=choice["name"], plan=plan, teacher=dense, inplace=True, **settings)
    write_model(model, plans_of(inputs["model"]), out, made=files.read_json(inputs["model"] / "model.json"))
    _carry_config(inputs["model"], out)
