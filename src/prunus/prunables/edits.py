"""Apply the edits of a Plan to a model: new weights, added biases, low-rank parts, factors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init  # no numbers are drawn for weights that are set anyway

from prunus.core.edits import (
    AddBias,
    Bypass,
    Edit,
    Factor,
    LowRank,
    Rotate,
    Scale,
    SetWeight,
    Share,
    Transform,
    Untie,
)
from prunus.core.errors import BadInput
from prunus.core.rng import Rng
from prunus.graph.record import named_tensors
from prunus.graph.resize import place
from prunus.maths.rank_parts import product
from prunus.maths.sharing import drawn_numbers, places, signs_of
from prunus.signals.scan import transposed
from prunus.train.kinds import Conv
from prunus.train.sharing import nearest_array, share


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


class Thin(nn.Sequential):
    """Two layers that stand for one. `weight` and `bias` are those of that one, for models that look at them (T5, attention
    that calls functions on them); what is computed from the product is not smaller.

    Args:
        first, second: of the factors.
        shape: of the dense weight, `[outputs, inputs / groups, *kernel]`.
        groups: of a convolution.
        scheme: of `maths.rank_parts`.
        turned: the dense weight is stored as `[in, out]`.
    """

    def __init__(
        self, first: nn.Module, second: nn.Module, shape: tuple[int, ...], groups: int, scheme: str, *, turned: bool
    ) -> None:
        super().__init__(first, second)
        self._reading = shape, groups, scheme
        self._turned = turned

    @property
    def weight(self) -> Tensor:
        """The product, in the shape of the dense weight."""
        v, u = (layer.get_parameter("weight").flatten(1) for layer in self)
        dense = product(u, v, *self._reading)
        return dense.T if self._turned else dense

    @property
    def bias(self) -> Tensor | None:
        """Of the second layer."""
        return cast("Tensor | None", self[1].bias)


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
            _factor(model, edit.module, u, v, edit.scheme)
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
    kind = with_low_rank(module)
    if kind is None:
        raise BadInput(f"a low-rank part needs a plain linear layer or convolution, {path} is {type(module).__name__}")
    weight = module.get_parameter("weight")
    module.__class__ = kind
    for name, value in (("low_rank_a", a), ("low_rank_b", b)):
        tensor = _own(value, weight)
        module.register_parameter(name, nn.Parameter(tensor, weight.requires_grad))


def _factor(model: nn.Module, path: str, u: np.ndarray, v: np.ndarray, scheme: str) -> None:
    module = _owner(model, path)
    if not can_factor(module):
        raise BadInput(f"factors need a linear layer or a convolution, {path} is {type(module).__name__}")
    weight = module.get_parameter("weight")
    bias = cast("Tensor | None", module.bias)  # None where there is none, whatever torch declares
    keywords = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(module, Conv):
        first, second = _thin_convolutions(module, u, v, scheme, keywords)
    else:
        first = skip_init(nn.Linear, v.shape[1], v.shape[0], bias=False, **keywords)
        second = skip_init(nn.Linear, u.shape[1], u.shape[0], bias=bias is not None, **keywords)
    with torch.no_grad():
        for layer, value in ((first, v), (second, u)):
            own = layer.get_parameter("weight")
            own.copy_(torch.from_numpy(value).reshape(own.shape))
            own.requires_grad_(weight.requires_grad)
        if bias is not None:
            second.get_parameter("bias").copy_(bias).requires_grad_(bias.requires_grad)
    parent, _, name = path.rpartition(".")
    turned = transposed(module)
    shape = tuple(weight.T.shape if turned else weight.shape)
    groups = module.groups if isinstance(module, Conv) else 1
    thin = Thin(first, second, shape, groups, scheme, turned=turned).train(module.training)
    setattr(model.get_submodule(parent), name, thin)


def share_parameters(model: nn.Module, edits: Iterable[Edit]) -> None:
    """Let parameters read one array, in place: the array starts as the edits say."""
    found = [edit for edit in edits if isinstance(edit, Share)]
    if not found:
        return
    tensors, first = named_tensors(model), found[0]
    layers: list[tuple[str, np.ndarray, np.ndarray, float]] = []
    for edit in found:
        if edit.parameter not in tensors:
            raise BadInput(f"the plan shares {edit.parameter!r}, which this model does not have")
        shape = tuple(tensors[edit.parameter].shape)
        cells = places(edit.mapper, shape, edit.offset, edit.size, drawn_numbers(edit.seed))
        signs = signs_of(edit.seed, edit.offset, cells.size).reshape(shape)
        layers.append((edit.parameter, cells, signs, float(edit.settings[0])))
    if first.start == "weights":
        array = nearest_array(
            [(tensors[name], cells, signs, scale) for name, cells, signs, scale in layers], first.size
        )
    else:
        drawn = Rng(first.seed, "start of the shared array").uniform(np.arange(first.size))
        array = torch.from_numpy((2 * drawn - 1) * float(first.settings[1]))
    share(model, layers, array.to(tensors[first.parameter]), rule=first.rule)


def multiply_out(model: nn.Module, edits: Iterable[Edit]) -> None:
    """Put what two factors stand for into the dense weight, in place: nothing gets smaller."""
    for edit in edits:
        if isinstance(edit, Factor):
            module = _owner(model, edit.module)
            weight, turned = module.get_parameter("weight"), transposed(module)
            shape = tuple(weight.T.shape if turned else weight.shape)
            groups = module.groups if isinstance(module, Conv) else 1
            dense = product(torch.from_numpy(edit.u), torch.from_numpy(edit.v), shape, groups, edit.scheme)
            with torch.no_grad():
                weight.copy_(dense.T if turned else dense)


def can_factor(module: nn.Module) -> bool:
    """Whether two thinner layers can stand where the module stands: linear layers and convolutions, not their subclasses, whose
    forward is their own, and not transposed convolutions."""
    return type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d) or transposed(module)


def _thin_convolutions(
    module: Conv, u: np.ndarray, v: np.ndarray, scheme: str, keywords: dict[str, Any]
) -> tuple[nn.Module, nn.Module]:
    """Two convolutions that together have the module's kernel, stride, padding and dilation; weights are not set."""
    dims = len(module.kernel_size)
    taps = int(np.prod(module.kernel_size))
    one: dict[str, tuple[int, ...]] = {"kernel_size": (1,) * dims, "stride": (1,) * dims, "dilation": (1,) * dims}
    whole: dict[str, Any] = {"padding": module.padding, "padding_mode": module.padding_mode}
    whole |= {name: getattr(module, name) for name in one}
    bare: dict[str, Any] = {**one, "padding": 0}
    second_taps, first, second, groups = 1, whole, bare, module.groups
    if scheme == "decouple":
        second_taps, first, second, groups = taps, bare, whole, module.out_channels
    elif scheme == "spatial":
        second_taps = module.kernel_size[1]
        first, second = _side(whole, 0), _side(whole, 1)
    rank = u.shape[1] // second_taps
    if u.shape != (module.out_channels, rank * second_taps) or len(v) != rank * groups:
        raise BadInput(f"factors {u.shape} and {v.shape} do not fit {type(module).__name__} under the scheme {scheme}")
    kind, bias = type(module), module.bias is not None
    return (
        skip_init(kind, module.in_channels, len(v), groups=module.groups, bias=False, **first, **keywords),
        skip_init(kind, len(v), module.out_channels, groups=groups, bias=bias, **second, **keywords),
    )


def _side(whole: dict[str, Any], axis: int) -> dict[str, Any]:
    """Of a 2-D convolution the part along one axis; padding in words ("same") holds along each."""
    plain = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": 0}
    apart = {
        name: whole[name]
        if isinstance(whole[name], str)
        else tuple(v if at == axis else one for at, v in enumerate(whole[name]))
        for name, one in plain.items()
    }
    return {**whole, **apart}
