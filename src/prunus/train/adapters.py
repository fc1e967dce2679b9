"""Low-rank adapters of matrices with zeros, as parametrisations of the weight: the merge loses no zero.

`W` is frozen; what the layer computes with is a function of W, a mask and two thin matrices a and b that train:

- lora: W + s b a. The merge fills the zeros.
- lora_prune: trained as lora, merged as W + s (b a) * mask, so the merge changes the outputs.
- mask_lora: W + s (b a) * mask, before and after the merge.
- scale_lora: W * (b a), both constant at the start so that b a = 1.
- gate: (W + s b a) * mask, where the mask may change while training.
- kept_path: W * gate + s b a, where the gate is whatever was set last, with its gradient.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from prunus.core.errors import BadInput, UnknownName

Kind = Literal["lora", "lora_prune", "mask_lora", "scale_lora", "gate", "kept_path"]


class Adapter(nn.Module):
    """What a weight is turned into while its adapter trains.

    Args:
        kind: see the module.
        weight: the frozen parameter, as it is stored.
        mask: bool of its shape, True where it may be other than 0.
        rank: of the adapter, at least 1.
        scale: s, alpha over rank.
        stored: the weight is `[inputs, outputs]`.
        generator: what `a` is drawn with.

    Attributes:
        a: `[rank, inputs * taps]`; b: `[outputs, rank]`.
        opening: of kept_path: broadcast over the stored weight; None is open.
    """

    mask: Tensor

    def __init__(
        self, kind: Kind, weight: Tensor, mask: Tensor, *, rank: int, scale: float, stored: bool, generator: torch.Generator
    ) -> None:  # fmt: skip
        super().__init__()
        if kind not in get_args(Kind):
            raise UnknownName("adapter", kind, get_args(Kind))
        if rank < 1:
            raise BadInput(f"rank is 1 or more, not {rank}")
        if mask.shape != weight.shape:
            raise BadInput(f"the mask is {list(mask.shape)}, its weight {list(weight.shape)}")
        self.kind, self.scale, self.stored, self.merging = kind, scale, stored, False
        self.opening: Tensor | None = None
        outputs = weight.shape[1] if stored else weight.shape[0]
        inputs = weight.numel() // outputs
        bound = 1 / math.sqrt(inputs)  # Kaiming-uniform with slope sqrt(5), the usual start
        a = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
        b = torch.zeros(outputs, rank)
        if kind == "scale_lora":
            a, b = torch.full_like(a, rank**-0.5), torch.full_like(b, rank**-0.5)
        wide = torch.promote_types(weight.dtype, torch.float32)  # half-precision weights train in float32
        self.a, self.b = (nn.Parameter(part.to(weight.device, wide)) for part in (a, b))
        self.register_buffer("mask", mask.to(weight.device), persistent=False)

    def product(self, weight: Tensor) -> Tensor:
        """b a in the shape of the stored weight."""
        lines = self.b @ self.a
        return lines.T if self.stored else lines.view(weight.shape)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer uses."""
        product = self.product(weight)
        if self.kind == "scale_lora":
            return (weight * product).to(weight.dtype)
        if self.kind == "gate":
            return ((weight + self.scale * product) * self.mask).to(weight.dtype)
        if self.kind == "kept_path" and self.opening is not None:
            weight = weight * self.opening
        masked = self.kind == "mask_lora" or (self.kind == "lora_prune" and self.merging)
        added = self.scale * (product * self.mask if masked else product)
        return (weight + added).to(weight.dtype)

    @torch.no_grad()
    def lost(self, weight: Tensor) -> float:
        """Squared Frobenius norm of what a merge under the mask leaves out."""
        if self.kind != "lora_prune":
            return 0.0
        return float((self.scale * self.product(weight) * ~self.mask).square().sum())


def attach(
    module: nn.Module, kind: Kind, mask: Tensor, *, rank: int, scale: float, stored: bool, generator: torch.Generator
) -> Adapter:
    """Let a layer compute with an adapted weight from now on; its own parameter moves inside.

    Args:
        module: with a `weight`; the rest as of `Adapter`.
    """
    weight = module.get_parameter("weight")
    made = Adapter(kind, weight.detach(), mask, rank=rank, scale=scale, stored=stored, generator=generator)
    parametrize.register_parametrization(module, "weight", made, unsafe=True)
    return made


def adapter_of(module: nn.Module) -> Adapter:
    """The adapter on a layer's weight."""
    found = module.get_submodule("parametrizations.weight.0")
    assert isinstance(found, Adapter)
    return found


def merge(module: nn.Module, order: tuple[str, ...]) -> None:
    """Put the adapted weight in the place of the layer's own, which is plain again.

    Args:
        module: with an adapter on its `weight`.
        order: names of its own parameters as they stood before, so that the state dict keeps its order.
    """
    adapter_of(module).merging = True
    parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    for name in order:
        value = getattr(module, name)
        delattr(module, name)
        module.register_parameter(name, value)
