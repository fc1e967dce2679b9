"""Decisions that train: which units stay, by a small network with straight-through gradients, pulled to a budget."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 64


class Generator(nn.Module):
    """Logits for every unit of every group, from fixed random inputs through a two-layer bidirectional GRU over the groups.

    Args:
        sizes: group name -> units, in the order of the model.
        generator: what inputs and weights are drawn with.
    """

    inputs: Tensor

    def __init__(self, sizes: Mapping[str, int], generator: torch.Generator) -> None:
        super().__init__()
        self.names = tuple(sizes)
        self.register_buffer("inputs", torch.randn(len(sizes), 1, WIDTH, generator=generator))
        self.over_groups = nn.GRU(WIDTH, WIDTH, num_layers=2, bidirectional=True)
        self.norm = nn.LayerNorm(2 * WIDTH)
        self.heads = nn.ModuleList([nn.Linear(2 * WIDTH, size) for size in sizes.values()])
        for name, parameter in self.named_parameters():
            if not name.startswith("norm"):
                bound = parameter.shape[-1] ** -0.5
                parameter.data.uniform_(-bound, bound, generator=generator)

    def forward(self) -> dict[str, Tensor]:
        """Group name -> logits `[size]`."""
        states = self.norm(self.over_groups(self.inputs)[0]).squeeze(1)
        return {name: head(state) for name, head, state in zip(self.names, self.heads, states)}


def decide(logits: Tensor, uniform: Tensor | None, *, tau: float, bias: float) -> tuple[Tensor, Tensor]:
    """Gumbel-sigmoid: the soft decision, and the hard one with the soft one's gradient.

    Args:
        logits: `[size]`.
        uniform: noise in (0, 1) of its shape; None for none.
        tau: temperature.
        bias: added to every logit; a large one starts with everything kept.
    """
    noise = 0.0 if uniform is None else uniform.log() - (1 - uniform).log()
    soft = torch.sigmoid((logits + noise + bias) / tau)
    return soft, soft.round().detach() + soft - soft.detach()


def with_one(decision: Tensor, logits: Tensor) -> Tensor:
    """The decision with its likeliest unit kept, where none is: a layer can't vanish."""
    if bool(decision.detach().any()):
        return decision
    return decision + F.one_hot(logits.detach().argmax(), len(logits)).to(decision)


def budget_gap(kept: Tensor, goal: float) -> Tensor:
    """ln of the larger over the smaller of what is kept and what should be: 0 only where they are equal."""
    target = torch.as_tensor(goal, dtype=kept.dtype, device=kept.device)
    return torch.log(torch.maximum(kept, target) / torch.minimum(kept, target))


def shrunk(slices: Tensor, threshold: float) -> Tensor:
    """The proximal step of a sum of norms: every slice `[slices, ...]` shorter by the threshold, or zero."""
    norms = slices.flatten(1).norm(dim=1)
    factors = (1 - threshold / norms.clamp_min(torch.finfo(slices.dtype).tiny)).clamp_min(0)
    return slices * factors.view(-1, *[1] * (slices.dim() - 1))
