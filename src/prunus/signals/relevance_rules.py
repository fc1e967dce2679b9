"""Layer-wise relevance propagation as a change of gradients: rules for operators, so that any forward pass will do.

What flows backward is relevance over activation, R = y * g. In that convention plain autograd already is the basic rule
of every linear operator and of max pooling (winner takes all), and a residual sum splits relevance by itself. The rules
change what is left: convolutions propagate positive contributions only (alpha 1, beta 0; a batch norm behind one is
folded into it first), linear layers, sums and average pools get the epsilon rule, smooth activations pass relevance on,
layer norms keep their deviation fixed. Operators without a rule (softmax, products) propagate gradient * input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Arrived = Callable[[str, Tensor, int], None]
CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}
TRANSPOSED = {torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d}
LINEAR = {F.linear, torch.addmm}
EPSILON = {
    torch.add, torch.Tensor.add, torch.Tensor.add_, torch.Tensor.__add__, torch.Tensor.__radd__, torch.Tensor.__iadd__,
    torch.mean, torch.Tensor.mean, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d,
    F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
}  # fmt: skip
PASS = {F.gelu, F.silu, F.elu, F.selu, F.leaky_relu, F.hardswish, F.hardtanh, F.relu6, torch.tanh, torch.Tensor.tanh}
ZERO = 1e-12  # stands for a sum of positive contributions that is exactly 0


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution that ran: enough to run it again with other weights."""

    name: str
    x: Tensor
    weight: Tensor
    again: Callable[[Tensor, Tensor], Tensor]
    axis: int

    def folded(self, scale: Tensor) -> Convolution:
        """The same with the factors of a norm behind it, one for each output."""
        shape = [1] * self.weight.dim()
        shape[self.axis] = -1
        return Convolution(self.name, self.x, self.weight * scale.view(shape), self.again, self.axis)


class Rules(TorchFunctionMode):
    """Inside `with Rules(...)`, forward passes build a graph whose backward pass carries relevance over activation.

    Args:
        names: id of each weight -> name, for weights that stay alive.
        arrived: called during the backward pass with a name, the relevance at the output of that layer, and the axis of
            its outputs.
        epsilon: stabiliser of the epsilon rule.
    """

    def __init__(self, names: Mapping[int, str], arrived: Arrived, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.names, self.arrived, self.epsilon = names, arrived, epsilon
        self.start = torch.zeros((), requires_grad=True)
        self._convolutions = WeakTensorKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in CONVOLUTIONS or func in TRANSPOSED:
            return self._convolution(func, args, kwargs)
        if func is F.batch_norm and isinstance(args[0], Tensor) and args[0] in self._convolutions:
            return self._batch_norm(func, args, kwargs)
        if func in LINEAR:
            return self._linear(func, args, kwargs)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor) or not out.requires_grad:
            return out
        if func in EPSILON and _float_tensors(args, func):
            _damp(out, self.epsilon)
        elif func in PASS:
            return args[0] * _ratio(out.detach(), args[0].detach())
        elif func is F.layer_norm:
            return _layer_norm(*args, **kwargs)
        return out

    def _convolution(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        x, weight = args[0] if args else kwargs["input"], args[1] if len(args) > 1 else kwargs["weight"]
        rest, more = args[3:], {k: v for k, v in kwargs.items() if k not in ("input", "weight", "bias")}

        def again(inputs: Tensor, weights: Tensor) -> Tensor:
            return func(inputs, weights, None, *rest, **more)

        with torch.no_grad():
            y = func(*args, **kwargs)
        ran = Convolution(
            self.names.get(id(weight), ""), self._joined(x), weight.detach(), again, int(func in TRANSPOSED)
        )
        out = self._positive(ran, y)
        self._convolutions[out] = ran
        return out

    def _batch_norm(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """A norm with running statistics behind a convolution is folded into it; another one stays what it is."""
        scale = _norm_scale(*args, **kwargs)
        ran = self._convolutions[args[0]]
        if scale is None or ran.weight.shape[ran.axis] != len(scale):
            return func(*args, **kwargs)
        with torch.no_grad():
            y = func(*args, **kwargs)
        return self._positive(ran.folded(scale), y)

    def _positive(self, ran: Convolution, y: Tensor) -> Tensor:
        def arrived(relevance: Tensor) -> None:
            if ran.name:
                self.arrived(ran.name, relevance, y.dim() - ran.weight.dim() + 1)

        return Positive.apply(ran.x, y, ran.weight, ran.again, arrived)

    def _linear(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        at, to = (1, 2) if func is torch.addmm else (0, 1)
        args = (*args[:at], self._joined(args[at]), *args[at + 1 :])
        weight = args[to] if len(args) > to else kwargs["weight"]
        out = func(*args, **kwargs)
        _damp(out, self.epsilon, lambda relevance: self._linear_arrived(weight, relevance))
        return out

    def _linear_arrived(self, weight: Tensor, relevance: Tensor) -> None:
        if id(weight) in self.names:
            self.arrived(self.names[id(weight)], relevance, relevance.dim() - 1)

    def _joined(self, x: Tensor) -> Tensor:
        """The first layers' inputs want no gradient: a zero that does makes the backward pass come this far."""
        return x if x.requires_grad else x + self.start.to(x.device)

    def backward(self, logits: Tensor, share: Tensor) -> None:
        """Propagate: each logit starts with the relevance `share`, of its shape. Call it after the `with` block."""
        torch.autograd.grad(logits, self.start, _ratio(share, logits.detach()))


class Positive(torch.autograd.Function):
    """A convolution whose backward pass is the rule of positive contributions; a bias takes no relevance."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, weight: Tensor, again: Any, arrived: Any) -> Tensor:
        """y itself, copied: what follows may work in place."""
        ctx.save_for_backward(x, y, weight)
        ctx.again, ctx.arrived = again, arrived
        return y.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Relevance over input: contributions of inputs above 0 through positive weights, below 0 through negative."""
        x, y, weight = ctx.saved_tensors
        relevance = y * grads[0]
        ctx.arrived(relevance)
        sides = [(x.clamp_min(0), weight.clamp_min(0))]
        if bool((x < 0).any()):
            sides.append((x.clamp_max(0), weight.clamp_max(0)))
        with torch.enable_grad():
            parts = [part.detach().requires_grad_(True) for part, _ in sides]
            sums = [ctx.again(part, weights) for part, (_, weights) in zip(parts, sides)]
        total = torch.stack([one.detach() for one in sums]).sum(0)
        share = relevance / torch.where(total == 0, torch.full_like(total, ZERO), total)
        carried = [torch.autograd.grad(one, part, share)[0] for one, part in zip(sums, parts)]
        result = torch.where(x > 0, carried[0], torch.zeros_like(x))
        if len(carried) > 1:
            result = torch.where(x < 0, carried[1], result)
        return result, None, None, None, None


def _norm_scale(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """What F.batch_norm, called like this, multiplies each channel with; None where it takes the batch's statistics."""
    if training or running_var is None:
        return None
    scale = torch.rsqrt(running_var + eps)
    return (scale if weight is None else scale * weight).detach()


def _damp(out: Tensor, epsilon: float, arrived: Callable[[Tensor], None] | None = None) -> None:
    """The epsilon rule at an output: relevance over (y + epsilon sign y) instead of over y; 0 counts as positive."""
    y = out.detach().clone()

    def hook(grad: Tensor) -> Tensor:
        if arrived is not None:
            arrived(y * grad)
        return grad * y / (y + torch.where(y < 0, -epsilon, epsilon))

    out.register_hook(hook)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below; 0 where below is 0."""
    return torch.where(
        below == 0, torch.zeros_like(below), above / torch.where(below == 0, torch.ones_like(below), below)
    )


def _float_tensors(args: Any, func: Any) -> bool:
    """Of a sum: two tensors; of a pool: one."""
    added = "add" in getattr(func, "__name__", "")
    return not added or all(isinstance(part, Tensor) for part in args[:2])


def _layer_norm(
    x: Tensor, shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """A layer norm that is linear in its input: the deviation is held fixed."""
    axes = tuple(range(-len(shape), 0))
    deviation = (x.var(axes, unbiased=False, keepdim=True) + eps).sqrt().detach()
    out = (x - x.mean(axes, keepdim=True)) / deviation
    out = out if weight is None else out * weight.detach()
    return out if bias is None else out + bias.detach()
