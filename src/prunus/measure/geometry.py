"""Geometry: angle, length and margin of last-layer features, clean and corrupted (Understanding Robustness Lottery 2022).

Removes: nothing.
Needs: a classifier whose logits come straight from a linear layer, and labelled rows; pictures, where they are corrupted.
Cost: 1 + corruptions * severities forward passes over the rows.
Departures: no code was released; the formulas are the geometry of a linear layer. The margin is signed and to the strongest
 rival; `measure_geometry` has the smallest distance to any border too (which one the tool plots is not verified). Corruptions
 are our own. Accuracy, flips (right when clean, wrong when corrupted) and rescues are shares of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, NonFinite
from prunus.core.registry import measure
from prunus.maths.geometry import Geometry, flips, measure_geometry
from prunus.measure.corruptions import corrupt
from prunus.measure.measured import Interval, Measured, role_facts
from prunus.train.modes import evaluating
from prunus.train.ordered import ordered
from prunus.train.step import Step, StepFn, infer_step, to_device

CLEAN = "clean"
Values = dict[str, tuple[float, Interval]]


@measure(needs=("logits", "labels"), card="robustness-lottery")
def geometry(
    model: nn.Module,
    data: Any,
    *,
    step: Any = None,
    batch: int = 256,
    device: str = "cpu",
    corruptions: tuple[str, ...] = (),
    severities: tuple[int, ...] = (1, 3, 5),
) -> Measured:
    """`angle` (degrees), `length` and `margin`, means over rows; under `@corruption:severity` the same with accuracy, flips, rescues.

    Args:
        step: adapter of a batch; inferred from the first one.
        batch: rows at a time.
        device: where the model runs.
        corruptions: gaussian_noise, shot_noise, impulse_noise, blur, motion_blur, brightness, contrast, fog, pixelate, jpeg.
        severities: 1 to 5.
    """
    found = geometries(
        model, data, step=step, batch=batch, device=device, corruptions=corruptions, severities=severities
    )
    clean = found[CLEAN]
    values: Values = _means(clean, "")
    for name, one in found.items():
        if name != CLEAN:
            values |= _means(one, f"@{name}") | {f"accuracy@{name}": (float(one.correct.mean()), None)}
            values[f"flips@{name}"] = (float(flips(clean, one).mean()), None)
            values[f"rescues@{name}"] = (float(flips(one, clean).mean()), None)
    return Measured(values, **role_facts(data, clean.labels.size))


def geometries(
    model: nn.Module,
    data: Any,
    *,
    step: StepFn | None = None,
    batch: int = 256,
    device: str = "cpu",
    corruptions: Iterable[str] = (),
    severities: Iterable[int] = (1, 3, 5),
) -> dict[str, Geometry]:
    """Condition (`clean`, `fog:3`) -> the measures of every row, in the order of the data. The model's mode is restored.

    Raises:
        BadInput: logits that do not come from a linear layer, rows without labels, values that are no pictures.
        NonFinite: features or logits with NaN.
    """
    every = [(CLEAN, 0), *((name, severity) for name in corruptions for severity in severities)]
    with evaluating(model), torch.inference_mode():
        return {
            CLEAN if name == CLEAN else f"{name}:{severity}": _one(model, data, step, batch, device, name, severity)
            for name, severity in every
        }


def last_layer(model: nn.Module, step: StepFn, batch: Any) -> tuple[nn.Linear, Tensor, Step]:
    """(the layer that makes the logits, what it read, the step)."""
    calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def keep(module: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((module, args[0], output))

    handles = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, nn.Linear)]
    try:
        found = step(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    made = [(module, x) for module, x, output in calls if output is found.logits]
    if not made or made[-1][1].dim() != 2:
        raise BadInput("geometry needs logits [B, c] that come straight from a linear layer; this model's do not")
    return *made[-1], found


def _one(
    model: nn.Module, data: Any, step: StepFn | None, batch: int, device: str, name: str, severity: int
) -> Geometry:
    features, labels, head = [], [], None
    for number, rows in enumerate(ordered(data, batch)):
        step = step or infer_step(rows)
        used = rows if name == CLEAN else _corrupted(rows, data, name, severity, number * batch)
        head, x, found = last_layer(model, step, to_device(used, torch.device(device)))
        if found.labels is None or found.labels.dim() != 1:
            raise BadInput("geometry needs one class label for each row")
        if not bool(x.isfinite().all()) or found.logits is None or not bool(found.logits.isfinite().all()):
            raise NonFinite(f"features or logits of the rows from {number * batch} on are NaN or infinite")
        features.append(x.double().cpu().numpy())
        labels.append(found.labels.cpu().numpy())
    if head is None:
        raise BadInput("there are no rows to measure on")
    bias: Tensor | None = getattr(head, "bias", None)
    shift = None if bias is None else bias.detach().cpu().numpy()
    return measure_geometry(np.concatenate(features), head.weight.detach().cpu().numpy(), shift, np.concatenate(labels))


def _corrupted(rows: Any, data: Any, name: str, severity: int, first: int) -> Any:
    """The batch with its pictures corrupted as they were before normalisation."""
    if not isinstance(rows, (tuple, list)) or len(rows) not in (2, 3) or not isinstance(rows[-2], Tensor):
        raise BadInput("corruptions are of pictures: batches of (x, y) or (ids, x, y)")
    x = rows[-2]
    ids = rows[0] if len(rows) == 3 else range(first, first + len(x))
    preprocess = getattr(data, "preprocess", None)
    mean, std = (getattr(preprocess, side, None) for side in ("mean", "std"))
    scale, shift = (torch.tensor(side or fill).view(-1, 1, 1) for side, fill in ((std, (1.0,)), (mean, (0.0,))))
    worse = corrupt((x * scale + shift), name, severity, list(ids))
    return type(rows)((*rows[:-2], (worse - shift) / scale, rows[-1]))


def _means(found: Geometry, suffix: str) -> Values:
    return {f"{name}{suffix}": (float(getattr(found, name).mean()), None) for name in ("angle", "length", "margin")}
