"""Weights that read one shared array, as parametrisations of torch: one parameter is stored and trained, layers see their own weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from prunus.core.errors import BadInput
from prunus.maths.sharing import gradient_scale

EPS = 1e-6  # as released, beside the scale that a gradient is divided by


class _Divided(torch.autograd.Function):
    """The array as it is; its gradient is divided cell by cell."""

    @staticmethod
    def forward(ctx: Any, array: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return array.view_as(array)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradients[0] / (scale + EPS), None


class SharedWeight(nn.Module):
    """`scale * sign * array[places]` in place of a parameter, whose own numbers are given up.

    Args:
        array: float `[size]`, the same for all layers.
        places: int64 of the weight's shape.
        factor: scale * sign, of the weight's shape.
        scale: what the gradient of each cell is divided by, `[size]`.
    """

    places: Tensor
    factor: Tensor
    scale: Tensor

    def __init__(self, array: nn.Parameter, places: Tensor, factor: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.array = array
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("factor", factor, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, given: Tensor) -> Tensor:
        """The weight; `given` is empty."""
        return _Divided.apply(self.array, self.scale)[self.places] * self.factor

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Nothing of the weight is kept."""
        return weight.new_empty(0)


def share(
    model: nn.Module,
    layers: Sequence[tuple[str, np.ndarray, np.ndarray, float]],
    array: Tensor,
    *,
    rule: str = "v1",
) -> nn.Parameter:
    """Let layers read one array, in place.

    Args:
        model: owner of the layers.
        layers: (parameter name, places int64, signs float32, scale) of each, places and signs of its shape.
        array: float `[size]`.
        rule: of `maths.sharing.gradient_scale`.

    Returns:
        the array as the parameter that is trained.
    """
    shared = nn.Parameter(array.clone())
    divisor = gradient_scale([(places, scale) for _, places, _, scale in layers], array.numel(), rule)
    by_cell = torch.from_numpy(divisor).to(array)
    for name, places, signs, scale in layers:
        owner, _, own = name.rpartition(".")
        module = model.get_submodule(owner)
        weight = module.get_parameter(own)
        if tuple(weight.shape) != places.shape:
            raise BadInput(f"{name} is {tuple(weight.shape)}, its places are {places.shape}")
        factor = torch.from_numpy(signs * np.float32(scale)).to(weight)
        part = SharedWeight(shared, torch.from_numpy(places).to(weight.device), factor, by_cell.to(weight))
        parametrize.register_parametrization(module, own, part, unsafe=True)
    return shared


def nearest_array(layers: Sequence[tuple[Tensor, np.ndarray, np.ndarray, float]], size: int) -> Tensor:
    """The array whose weights are nearest to given ones in least squares: exact where no two weights read one cell.

    Args:
        layers: (weight, places, signs, scale) of each.
        size: of the array.

    Returns:
        float64 `[size]`; 0 in cells that nothing reads.
    """
    top, bottom = np.zeros(size), np.zeros(size)
    for weight, places, signs, scale in layers:
        values = weight.detach().double().cpu().numpy() * signs * scale
        top += np.bincount(places.reshape(-1), values.reshape(-1), minlength=size)
        bottom += scale**2 * np.bincount(places.reshape(-1), minlength=size)
    return torch.from_numpy(top / np.where(bottom > 0, bottom, 1))


def shared_numbers(model: nn.Module) -> int:
    """Cells of the shared array of a model; 0 where nothing is shared."""
    arrays = {module.array for module in model.modules() if isinstance(module, SharedWeight)}
    return sum(array.numel() for array in arrays)
