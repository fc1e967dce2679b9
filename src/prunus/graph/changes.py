"""What training changed of a model, as edits of a plan."""

from __future__ import annotations

import torch
from torch import nn

from prunus.core.edits import SetWeight
from prunus.graph.record import named_tensors


def changes(before: nn.Module, after: nn.Module) -> tuple[SetWeight, ...]:
    """Everything that training changed, buffers included, as edits."""
    old, new = named_tensors(before), named_tensors(after)
    return tuple(
        SetWeight(name, new[name].detach().float().cpu().numpy())
        for name in sorted(new)
        if new[name].is_floating_point() and not torch.equal(new[name], old[name].to(new[name]))
    )
