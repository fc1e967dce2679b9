"""Apply the edits of a Plan to a model: new weights, added biases, low-rank parts, factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.edits import AddBias, Bypass, Edit, Factor, LowRank, Rotate, Scale, SetWeight, Transform, Untie
from prunus.core.errors import BadInput
from prunus.graph.record import named_tensors
from prunus.graph.resize import place


class LowRankLinear(nn.Linear):
    """A linear layer with a low-rank part beside it: y = W x + b + low_rank_b (low_rank_a x)."""

    low_rank_a: nn.Parameter
    low_rank_b: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:
        """x `[..., in]` -> y `[..., out]`."""
        return F.linear(input, self.weight, self.bias) + F.linear(F.linear(input, self.low_rank_a), self.low_rank_b)


class Transformed:
    """Mixed into a block's class: what the block gives is multiplied by a matrix."""

    transform: nn.Parameter

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's output; of a tuple the first entry is multiplied."""
        given = cast("Any", super()).forward(*args, **kwargs)
        return (given[0] @ self.transform, *given[1:]) if isinstance(given, tuple) else given @ self.transform


def set_weights(model: nn.Module, edits: Iterable[Edit]) -> None:
    """Untie, SetWeight, Scale and Rotate on the dense model, in place and in order.

    Raises `BadInput` for names or shapes that do not fit.
    """
    tensors = named_tensors(model)
    for edit in edits:
        if not isinstance(edit, (SetWeight, Rotate, Scale, Untie)):
            continue
        tensor = tensors.get(edit.parameter)
        if tensor is None:
            raise BadInput(f"the plan edits {edit.parameter!r}, which this model does not have")
        if isinstance(edit, Untie):
            _untie(model, edit.parameter, tensor)
            tensors = named_tensors(model)
            continue
        with torch.no_grad():
            tensor.copy_(_edited(tensor, edit))


def _edited(tensor: Tensor, edit: SetWeight | Rotate | Scale) -> Tensor:
    """The new value; products in float32 at least."""
    if isinstance(edit, SetWeight):
        if tuple(edit.value.shape) != tuple(tensor.shape):
            raise BadInput(f"{edit.parameter} has shape {tuple(tensor.shape)}, the edit {edit.value.shape}")
        return torch.from_numpy(edit.value).to(tensor)
    wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32)).movedim(edit.axis, -1)
    matrix = _own(edit.q if isinstance(edit, Rotate) else edit.value, wide)
    turned = wide @ matrix.T if isinstance(edit, Rotate) else wide * matrix
    return turned.movedim(-1, edit.axis).to(tensor)


def _own(array: np.ndarray, like: Tensor) -> Tensor:
    """A copy: a model that is trained leaves its plan alone, and products don't depend on where a file was mapped."""
    return torch.tensor(array, dtype=like.dtype, device=like.device)


def _untie(model: nn.Module, name: str, tensor: Tensor) -> None:
    """A copy of its own under one name; configs that say that tensors are tied no longer do."""
    place(model, name, nn.Parameter(tensor.detach().clone(), tensor.requires_grad))
    config = getattr(model, "config", None)
    if getattr(config, "tie_word_embeddings", False):
        setattr(config, "tie_word_embeddings", False)  # noqa: B010  (a config of any class)


def _transform(model: nn.Module, path: str, matrix: np.ndarray) -> None:
    module = _owner(model, path)
    kind = type(module)
    if not issubclass(kind, Transformed):  # its own class stays a base: code asks for it, and keys stay as they are
        module.__class__ = type(kind.__name__, (Transformed, kind), {"__module__": kind.__module__})
    like = next(module.parameters())
    module.register_parameter("transform", nn.Parameter(_own(matrix, like), like.requires_grad))


def add_parts(model: nn.Module, edits: Iterable[Edit], kept: Callable[[str, str], np.ndarray | None]) -> None:
    """AddBias, LowRank, Factor and Transform on the cut model, in place.

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
        elif isinstance(edit, Transform):
            _transform(model, edit.module, edit.matrix)
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
    extra = _own(value, weight)
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
    if type(module) is not nn.Linear:
        raise BadInput(f"a low-rank part needs nn.Linear, {path} is {type(module).__name__}")
    module.__class__ = LowRankLinear
    for name, value in (("low_rank_a", a), ("low_rank_b", b)):
        tensor = _own(value, module.weight)
        module.register_parameter(name, nn.Parameter(tensor, module.weight.requires_grad))


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
