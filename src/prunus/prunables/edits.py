"""Apply the edits of a Plan to a model: new weights, added biases, low-rank parts, factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.edits import AddBias, Bypass, Edit, Factor, LowRank, Rotate, SetWeight
from prunus.core.errors import BadInput
from prunus.graph.record import named_tensors
from prunus.signals.scan import transposed


class LowRankLinear(nn.Linear):
    """A linear layer with a low-rank part beside it: y = W x + b + low_rank_b (low_rank_a x)."""

    low_rank_a: nn.Parameter
    low_rank_b: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """x `[..., in]` -> y `[..., out]`."""
        return F.linear(input, self.weight, self.bias) + F.linear(F.linear(input, self.low_rank_a), self.low_rank_b)


class LowRankConv2d(nn.Conv2d):
    """A convolution with a low-rank one beside it: `low_rank_a [rank, in * taps]` are its filters, `low_rank_b` mixes them."""

    low_rank_a: nn.Parameter
    low_rank_b: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """x `[B, in, h, w]` -> y `[B, out, h', w']`."""
        filters = self.low_rank_a.view(-1, *self.weight.shape[1:])
        inner = self._conv_forward(input, filters, None)
        return self._conv_forward(input, self.weight, self.bias) + F.conv2d(inner, self.low_rank_b[:, :, None, None])


class LowRankStored(nn.Module):
    """A linear layer that stores `[in, out]` (GPT-2's), with a low-rank part beside it."""

    weight: nn.Parameter
    bias: nn.Parameter
    low_rank_a: nn.Parameter
    low_rank_b: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """x `[..., in]` -> y `[..., out]`."""
        beside = F.linear(F.linear(input, self.low_rank_a), self.low_rank_b)
        return F.linear(input, self.weight.T, self.bias) + beside


def with_low_rank(module: nn.Module) -> type[nn.Module] | None:
    """The class that this layer would have with a low-rank part beside it; None where there is no such class."""
    if transposed(module):
        return LowRankStored
    if type(module) is nn.Conv2d and module.groups == 1:
        return LowRankConv2d
    return LowRankLinear if type(module) is nn.Linear else None


def set_weights(model: nn.Module, edits: Iterable[Edit]) -> None:
    """SetWeight and Rotate on the dense model, in place. Raises `BadInput` for names or shapes that do not fit."""
    tensors = named_tensors(model)
    for edit in edits:
        if not isinstance(edit, (SetWeight, Rotate)):
            continue
        tensor = tensors.get(edit.parameter)
        if tensor is None:
            raise BadInput(f"the plan edits {edit.parameter!r}, which this model does not have")
        with torch.no_grad():
            if isinstance(edit, SetWeight):
                if tuple(edit.value.shape) != tuple(tensor.shape):
                    raise BadInput(f"{edit.parameter} has shape {tuple(tensor.shape)}, the edit {edit.value.shape}")
                tensor.copy_(torch.from_numpy(edit.value).to(tensor))
            else:
                turn = torch.from_numpy(edit.q).to(tensor)
                tensor.copy_((tensor.movedim(edit.axis, -1) @ turn.T).movedim(-1, edit.axis))


def add_parts(model: nn.Module, edits: Iterable[Edit], kept: Callable[[str, str], np.ndarray | None]) -> None:
    """AddBias, LowRank and Factor on the cut model, in place.

    Args:
        kept: (module, "out" | "in") -> positions of the dense module's outputs or inputs that stayed, or None for all.
    """
    for edit in edits:
        if isinstance(edit, AddBias):
            _add_bias(model, edit.module, _take(edit.value, kept(edit.module, "out"), 0))
        elif isinstance(edit, LowRank):
            a, b = _take(edit.a, kept(edit.module, "in"), 1), _take(edit.b, kept(edit.module, "out"), 0)
            _low_rank(model, edit.module, a, b)
        elif isinstance(edit, Factor):
            u, v = _take(edit.u, kept(edit.module, "out"), 0), _take(edit.v, kept(edit.module, "in"), 1)
            _factor(model, edit.module, u, v)
        elif isinstance(edit, Bypass):
            raise BadInput(f"Bypass of {edit.module} belongs to a plan over layers")


def _take(array: np.ndarray, places: np.ndarray | None, axis: int) -> np.ndarray:
    return array if places is None else np.take(array, places, axis)


def _owner(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise BadInput(f"the plan edits module {path!r}, which this model does not have") from error


def _add_bias(model: nn.Module, path: str, value: np.ndarray) -> None:
    module = _owner(model, path)
    weight = module.get_parameter("weight")
    extra = torch.from_numpy(value).to(weight)
    bias = getattr(module, "bias", None)
    if bias is None:
        module.register_parameter("bias", nn.Parameter(extra, requires_grad=weight.requires_grad))
    elif bias.shape != extra.shape:
        raise BadInput(f"{path} has {bias.numel()} biases, the edit {extra.numel()}")
    else:
        with torch.no_grad():
            bias.add_(extra)


def _low_rank(model: nn.Module, path: str, a: np.ndarray, b: np.ndarray) -> None:
    module = _owner(model, path)
    kind = with_low_rank(module)
    if kind is None:
        raise BadInput(f"a low-rank part needs a plain linear layer or convolution, {path} is {type(module).__name__}")
    weight = module.get_parameter("weight")
    module.__class__ = kind
    for name, value in (("low_rank_a", a), ("low_rank_b", b)):
        tensor = torch.from_numpy(value).to(weight)
        module.register_parameter(name, nn.Parameter(tensor, weight.requires_grad))


def _factor(model: nn.Module, path: str, u: np.ndarray, v: np.ndarray) -> None:
    module = _owner(model, path)
    if not isinstance(module, nn.Linear):
        raise BadInput(f"factors need nn.Linear, {path} is {type(module).__name__}")
    bias = cast("Tensor | None", module.bias)  # None where there is none, whatever torch declares
    keywords = {"device": module.weight.device, "dtype": module.weight.dtype}
    first = nn.Linear(v.shape[1], v.shape[0], bias=False, **keywords)
    second = nn.Linear(u.shape[1], u.shape[0], bias=bias is not None, **keywords)
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(v))
        second.weight.copy_(torch.from_numpy(u))
        if bias is not None:
            second.bias.copy_(bias)
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Sequential(first, second).train(module.training))
