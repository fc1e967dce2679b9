"""The matrices of a model as criteria over weights see them, and their scores. One matrix of scores is held at a time."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from prunus.allocate.matrices import Allocate, matrix_counts
from prunus.core.budget import Budget
from prunus.core.errors import BadInput, UnknownName
from prunus.core.prunable import Group
from prunus.core.registry import Method
from prunus.core.rng import Rng
from prunus.core.score import LazyValues, Score
from prunus.flow.calls import with_rng
from prunus.graph.blocks import block_of
from prunus.graph.lines import to_lines
from prunus.graph.record import named_tensors
from prunus.prunables.model import ModelPrunable, as_lines
from prunus.signals.modules import ModuleSignals
from prunus.weights.recurrent import SIDES, recurrent

BY_WEIGHT = frozenset({"grad", "grad_square", "hessian_gradient"})  # signals in the shape of the stored weight


def score_weights(
    prunable: ModelPrunable,
    found: Method,
    *,
    signals: ModuleSignals | None = None,
    layers: str = "all",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Score:
    """Scores `[outputs, inputs * taps]` for each matrix, computed when asked for.

    Args:
        prunable: the model.
        found: a criterion over weights.
        signals: of one calibration pass.
        layers: `all`; `blocks`: only matrices inside repeated blocks, as language-model pruners do (no embedding, no head);
            `recurrent`, `i2h`, `h2h`: only those of recurrent layers, or of one of their two kinds; `feedforward`: all others.
        seed: for criteria that draw.
        options: the criterion's own.
    """
    options = dict(options or {})
    groups = {group.name: group for group in chosen(prunable, layers)}

    def compute(name: str) -> np.ndarray:
        return score_matrix(prunable, found, groups[name], signals, seed=seed, options=options)

    made = {"method": found.id, "options": options, "seed": seed, "layers": layers}
    sense = found.facts.get("sense", "keep")
    return Score("weights", LazyValues(tuple(groups), compute), sense, None, prunable.fingerprint(), made)


def score_matrix(
    prunable: ModelPrunable,
    found: Method,
    group: Group,
    signals: ModuleSignals | None,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """What a criterion says of one matrix, float32 or float64 `[outputs, inputs * taps]`."""
    function = found.load()
    with torch.no_grad():
        values = function(
            matrix(prunable, group, signals),
            **with_rng(function, dict(options or {}), Rng(seed, f"{found.id}/{group.name}")),
        )
    return np.asarray(values.float() if values.dtype != torch.float64 else values)


def chosen(prunable: ModelPrunable, layers: str) -> tuple[Group, ...]:
    """The matrices that take part."""
    groups = prunable.groups("weights")
    if layers == "all":
        return groups
    if layers in SIDES:
        return recurrent(groups, layers)
    if layers == "feedforward":
        return tuple(group for group in groups if group.name.rpartition(".")[2] == "weight")
    if layers != "blocks":
        raise UnknownName("choice of layers", layers, ("all", "blocks", "feedforward", *SIDES))
    inside = tuple(group for group in groups if block_of(group.name))
    if not inside:
        raise BadInput("this model has no repeated blocks: use layers='all'")
    return inside


def matrix(prunable: ModelPrunable, group: Group, signals: ModuleSignals | None) -> SimpleNamespace:
    """A layer as criteria over weights see it: `weight [outputs, inputs * taps]`, and whatever was measured of its module."""
    weight = as_lines(prunable.model, group.name)
    module = group.name.rpartition(".")[0]
    fields: dict[str, Any] = {"name": group.name, "weight": weight}
    if signals is not None:
        if module not in signals and not group.name.endswith(".weight"):
            raise BadInput(
                f"inputs of the recurrent {group.name} are not measured: leave it out with layers='feedforward', or use "
                "magnitude"
            )
        stats = signals[module]
        owner: Any = prunable.model.get_submodule(module)
        for name, value in stats.fields.items():
            if name.startswith("input_"):
                value = stats.per_output(name, weight.shape[0])
                value = value.reshape(-1) if value.shape[0] == 1 else value
            elif name in BY_WEIGHT:
                value = to_lines(owner, value)
            fields[name] = value
    return SimpleNamespace(**fields)


def allocated(
    prunable: ModelPrunable, score: Score, budget: Budget, allocate: Allocate, options: Mapping[str, Any] | None
) -> dict[str, int]:
    """Weights of each matrix that stay under an allocator or under given densities."""
    if budget.nm:
        raise BadInput(f"{budget.short()} holds in every matrix: leave allocate= out")
    tensors = named_tensors(prunable.model)
    shapes = {name: tuple(tensors[name].shape) for name in score.values}
    size = sum(tensors[name].numel() for name in shapes)
    total = size - budget.drop_count(size)
    sign = -1 if score.sense == "easy" else 1

    def values(name: str) -> np.ndarray:
        return sign * score.values[name].reshape(-1)

    return matrix_counts(shapes, total, allocate, values=values, floors=budget.floor, options=options)
