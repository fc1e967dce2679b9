"""Synaptic flow: what each weight carries of the sum of outputs, on |weights| and an input of ones (Tanaka et al. 2020).

Needs no data. Evaluation mode, so that norms are fixed; the running means of batch norms count as 0, as they are at the start, or a
trained norm would take away what should only add up. The sum is a product over all layers: where it leaves float32, everything is
done again in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite, UnknownName
from prunus.maths.partial import keep_largest, pooled_counts
from prunus.train.copies import copied
from prunus.train.kinds import BatchNorm

Forward = Callable[[nn.Module, Any], Any]
SLACK = 1e-9  # 0.9 * 10 must count as 9
Course = Literal["exponential", "linear"]


class Flow:
    """A copy of a model with absolute parameters, and an example of ones to send through it.

    Args:
        model: left as it was; one in float64 stays in it.
        example: what it is called with; floating inputs become ones.
        run: `(model, example) -> output`.
    """

    def __init__(self, model: nn.Module, example: Any, run: Forward) -> None:
        exact = any(parameter.dtype == torch.float64 for parameter in model.parameters())
        dtype = torch.float64 if exact else torch.float32
        self._model = copied(model).to(dtype).eval()
        with torch.no_grad():
            for tensor in (*self._model.parameters(), *self._model.buffers()):
                if tensor.is_floating_point():
                    tensor.abs_()
            for module in self._model.modules():
                if isinstance(module, BatchNorm) and module.running_mean is not None:
                    module.running_mean.zero_()
        for parameter in self._model.parameters():
            parameter.requires_grad_(True)
        self._example, self._run = _ones(example, dtype), run
        self._dense = {name: p.detach().clone() for name, p in self._model.named_parameters()}

    def scores(self, masks: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """parameter * gradient of the summed output, under masks (parameter name -> bool, True stays).

        Raises:
            NonFinite: the flow left the finite numbers of float64.
        """
        named = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, mask in (masks or {}).items():
                named[name].copy_(self._dense[name] * mask)
        with torch.enable_grad():
            total = torch.stack([out.sum() for out in _tensors(self._run(self._model, self._example))]).sum()
            grads = torch.autograd.grad(total, list(named.values()), materialize_grads=True)
        found = {name: value.detach() * grad for (name, value), grad in zip(named.items(), grads)}
        if all(bool(torch.isfinite(score).all()) for score in found.values()):
            return found
        if total.dtype == torch.float64:
            raise NonFinite(f"the synaptic flow is {float(total.detach())}: too many layers, or a weight is not finite")
        self._model.double()
        self._dense = {name: value.double() for name, value in self._dense.items()}
        self._example = _ones(self._example, torch.float64)
        return self.scores(masks)


def flow_masks(
    flow: Flow,
    names: Sequence[str],
    share: float,
    *,
    rounds: int = 100,
    course: Course = "exponential",
    floors: int = 0,
) -> dict[str, Tensor]:
    """What survives rounds of one cut over all matrices by the flow that the round before has left.

    Args:
        flow: of the model.
        names: of the parameters that compete.
        share: of the weights that stays in the end; what goes is rounded down.
        rounds: cuts; the share that stays falls exponentially or in equal steps.
        course: exponential keeps `share ** (k / rounds)` after round k, linear `1 - (1 - share) k / rounds`.
        floors: least weights of a matrix; smaller ones stay whole.

    Returns:
        name -> bool mask. What went in a round never comes back; of equal scores the later weights stay.

    Raises:
        BudgetUnreachable: the floors need more than the total.
    """
    if rounds < 1:
        raise BadInput(f"rounds must be 1 or more, not {rounds}")
    if course not in ("exponential", "linear"):
        raise UnknownName("course", course, ("exponential", "linear"))
    scores = flow.scores()
    size = sum(scores[name].numel() for name in names)
    least = np.array([min(floors, scores[name].numel()) for name in names])
    total = stays_of(share, size)
    if not max(int(least.sum()), 1) <= total <= size:
        nearest = f"{max(int(least.sum()), 1)} weights"
        raise BudgetUnreachable(f"{total} of {size} weights in {len(names)} matrices can't stay", nearest=nearest)
    masks: dict[str, Tensor] = {}
    for number in range(1, rounds + 1):
        scores = scores if number == 1 else flow.scores(masks)
        ranked = [_below(scores[name], masks.get(name)) for name in names]
        part = number / rounds
        stays = max(stays_of(share**part if course == "exponential" else 1 - (1 - share) * part, size), total)
        counts = pooled_counts(lambda: iter(ranked), stays, least)  # noqa: B023
        for name, values, count in zip(names, ranked, counts.tolist()):
            kept = keep_largest(values.reshape(1, -1), count)
            masks[name] = torch.from_numpy(kept.reshape(values.shape))
    return masks


def stays_of(share: float, size: int) -> int:
    """How many of `size` stay where what goes is rounded down, as papers do."""
    return size - math.floor((1 - share) * size + SLACK)


def _below(scores: Tensor, mask: Tensor | None) -> np.ndarray:
    """Scores with those of what is gone under all others: a weight of a dead path scores 0 as well."""
    return (scores if mask is None else torch.where(mask, scores, -1.0)).numpy()


def _ones(example: Any, dtype: torch.dtype = torch.float32) -> Any:
    if isinstance(example, Tensor):
        return torch.ones_like(example, dtype=dtype) if example.is_floating_point() else example
    if isinstance(example, Mapping):
        return {key: _ones(value, dtype) for key, value in example.items()}
    if isinstance(example, (tuple, list)):
        return type(example)([_ones(value, dtype) for value in example])
    return example


def _tensors(output: Any) -> list[Tensor]:
    parts = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else [output]
    )
    found = [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
    if not found:
        raise BadInput(f"the synaptic flow needs a model that gives tensors, not {type(output).__name__}")
    return found
