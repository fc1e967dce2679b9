"""What searches for masks over trained weights share: how many stay in each matrix, the mask by magnitude, and the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from prunus.allocate.matrices import matrix_counts
from prunus.core.budget import Budget
from prunus.core.counted import counted
from prunus.core.errors import NonFinite, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.graph.changes import changes
from prunus.graph.lines import to_lines
from prunus.maths.partial import keep_largest

Of = Literal["weight", "output", "input"]


def top_mask(scores: Tensor, gone: int, of: Of = "weight", p: float = 2.0) -> Tensor:
    """The mask that leaves out the `gone` weights, outputs or inputs of least |score|.

    Args:
        scores: in the shape of the weight, `[outputs, inputs, ...]`.
        gone: how many go, in the unit of `of`.
        of: weight; output: by the p-norm of its scores; input: by the p-norm over outputs of the p-norms over the kernel.
        p: of the norm.

    Returns:
        bool in the shape of the scores, True stays; of equal ones the later stay.
    """
    if of not in ("weight", "output", "input"):
        raise UnknownName("what is masked", of, ("weight", "output", "input"))
    sizes = scores.detach().abs()
    if of == "output":
        sizes = torch.linalg.vector_norm(sizes.flatten(1), p, 1)
    elif of == "input":
        kernels = torch.linalg.vector_norm(sizes.reshape(*sizes.shape[:2], -1), p, 2)
        sizes = torch.linalg.vector_norm(kernels, p, 0)
    flat = sizes.cpu().numpy().reshape(1, -1)
    kept = torch.from_numpy(keep_largest(flat, flat.size - gone)).reshape(sizes.shape).to(scores.device)
    if of == "output":
        kept = kept.reshape(-1, *[1] * (scores.dim() - 1))
    elif of == "input":
        kept = kept.reshape(1, -1, *[1] * (scores.dim() - 2))
    return kept.expand(scores.shape).clone()


def counts_of(
    model: nn.Module, groups: Iterable[Any], budget: Budget, allocate: str, floors: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Weights of each matrix that stay; allocators that compare scores get magnitudes.

    Raises:
        NonFinite: a weight is; names its matrix.
    """
    weights = {group.name: model.get_parameter(group.name).detach() for group in groups}
    for name, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise NonFinite(f"{name} holds NaN or infinity: check the weights of the model")
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    size = sum(weight.numel() for weight in weights.values())

    def values(name: str) -> np.ndarray:
        return weights[name].abs().float().cpu().numpy().reshape(-1)

    least = budget.floor if floors is None else {name: max(budget.floor, floors.get(name, 0)) for name in shapes}
    return matrix_counts(shapes, budget.count(size), allocate, values=values, floors=least)


def masked_plan(
    prunable: Any,
    budget: Budget,
    masks: Mapping[str, Tensor],
    *,
    trained: nn.Module | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan of masks over weights, of stored shape, with whatever else the trained copy of the model has changed."""
    owners = {name: prunable.model.get_submodule(name.rpartition(".")[0]) for name in masks}
    kept = {name: Kept.of_mask(to_lines(owners[name], mask).cpu().numpy()) for name, mask in masks.items()}
    edits = () if trained is None else changes(prunable.model, trained)
    return Plan("weights", kept, budget, *counted("weights", kept), edits, provenance=provenance or {})


@torch.no_grad()
def write_masked(weights: Mapping[nn.Parameter, Tensor], masks: Mapping[nn.Parameter, Tensor]) -> None:
    """Every parameter becomes the weights that stand for it, zero where its mask says so."""
    for one, mask in masks.items():
        one.copy_(torch.where(mask, weights[one], 0.0))
