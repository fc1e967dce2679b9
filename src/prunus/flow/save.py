"""Save and load pruned models: safetensors, the plan, and what was got. No pickle, no code execution, state-dict keys as before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core import files
from prunus.core.edits import Rotate, Scale, SetWeight
from prunus.core.errors import BadInput, CorruptFile
from prunus.core.plan import Plan
from prunus.flow.sparse import patterns
from prunus.flow.stock import is_stock, stock_config
from prunus.graph.example import restore
from prunus.prunables.model import ModelPrunable, shares

WEIGHTS, APPLIED, CONFIG = "model.safetensors", "applied.json", "config.json"


def kept(plan: Plan) -> np.ndarray:
    """The sorted ids that stay, over all groups of a plan over rows."""
    if plan.unit != "rows":
        raise BadInput(f"px.kept gives the ids of rows; this plan is over {plan.unit}: use plan.keep(group)")
    return plan.keep()


def save(model: nn.Module, plan: Plan | Sequence[Plan], folder: str | Path) -> Path:
    """Write a pruned model so that `load` needs only its constructor.

    Args:
        model: after the plan was applied (and recovered).
        plan: the plan, or all plans in the order they were applied (plans over rows are left out).
        folder: gets `model.safetensors`, `applied.json` and one `plan-N/` for each plan. A transformers model that was cut alike in
            all layers gets a plain `config.json` too, so that stock `from_pretrained(folder)` loads it; `applied.json` says under
            `config` whether it did, and why not; under `patterns` which matrices keep N of every M inputs (`2:4`).

    Raises:
        ResourceError: the disk is full or read-only; what existed stays.
    """
    folder = Path(folder)
    plans = [one for one in ([plan] if isinstance(plan, Plan) else plan) if one.unit != "rows"]
    for number, one in enumerate(plans):
        one.save(folder / f"plan-{number}")
    tensors, shared = _unique(model.state_dict())
    files.write_tensors(folder / WEIGHTS, tensors)
    parameters = sum(p.numel() for p in model.parameters())
    head: dict[str, Any] = {"schema": 1, "plans": len(plans), "shared": shared, "got": {"params": float(parameters)}}
    weights = [one for one in plans if one.unit == "weights"]
    if weights and not shares(weights[-1]) and (found := patterns(weights[-1], model)):
        head["patterns"] = found
    example = next((one.provenance["example"] for one in plans if one.provenance.get("example")), None)
    if example is not None and is_stock(model):
        config, reason = stock_config(model, restore(example))
        head["config"] = reason or "from_pretrained loads this folder"
        (folder / CONFIG).unlink(missing_ok=True)  # of a cut that was saved here before
        if config is not None:
            files.write_json(folder / CONFIG, config.to_dict() | {"dtype": str(config.dtype).removeprefix("torch.")})
    files.write_json(folder / APPLIED, head)
    return folder


def got(folder: Path) -> dict[str, float]:
    """What was counted and measured of the cut, from `applied.json`."""
    return dict(files.read_json(folder / APPLIED)["got"])


def add_got(folder: Path, **facts: float) -> None:
    """Add what was measured of the cut to `applied.json`."""
    head = files.read_json(folder / APPLIED)
    files.write_json(folder / APPLIED, {**head, "got": {**got(folder), **facts}})


def _unique(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor once; the other names of shared ones."""
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name in sorted(state):
        tensor = state[name].detach()
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in first:
            shared[name] = first[place]
        else:
            first[place] = name
            tensors[name] = tensor.cpu().contiguous()
    return tensors, shared


def load(folder: str | Path, like: nn.Module | Callable[[], nn.Module], *, example: Any = None) -> nn.Module:
    """The saved model.

    Args:
        folder: what `save` wrote.
        like: the constructor of the dense model, or a dense model that it made (weights don't matter), which is left as it is.
        example: what the model is called with, for one that needs certain values (image tokens): plans hold shapes only.

    Raises:
        CorruptFile: the folder is not whole.
        BadInput: `like` is another architecture.
    """
    folder = Path(folder)
    if not (folder / APPLIED).exists():
        raise CorruptFile(f"{folder} has no {APPLIED}: not a saved model, or its writing was interrupted")
    head = files.read_json(folder / APPLIED)
    model = like if isinstance(like, nn.Module) else like()
    if not hasattr(model, "state_dict"):  # whatever the caller's function returned
        raise BadInput(f"like= is a model or what constructs one; it gave a {type(model).__name__}")
    for number in range(int(head["plans"])):
        plan = Plan.load(folder / f"plan-{number}")
        edits = tuple(
            edit for edit in plan.edits if not isinstance(edit, (SetWeight, Rotate, Scale))
        )  # are in the file
        target = model if example is None else ModelPrunable(model, example)
        model = replace(plan, fingerprint="", edits=edits).apply(target)
    tensors = files.read_tensors(folder / WEIGHTS)
    tensors |= {name: tensors[source] for name, source in head["shared"].items()}
    _fill(model, tensors, folder)
    return model.eval()


def _fill(model: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    state = model.state_dict()
    if missing := sorted(set(state) - set(tensors)) or sorted(set(tensors) - set(state)):
        raise BadInput(f"{folder} and `like` differ: {missing[0]!r} is in one of them only; give the same architecture")
    for name, tensor in tensors.items():
        if state[name].shape != tensor.shape:
            raise BadInput(
                f"{name} is {tuple(tensor.shape)} in {folder}, {tuple(state[name].shape)} in `like` after its plans"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
