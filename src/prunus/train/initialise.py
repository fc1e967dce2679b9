"""A new initialisation of a model that exists: what a network of new widths is trained from."""

from __future__ import annotations

from torch import nn

from prunus.core.errors import BadInput
from prunus.core.rng import torch_fork


def initialise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter anew, in place, by the rule of each layer (`reset_parameters`); returns the model.

    Fan-in is that of the layers as they are now. What a constructor did after its layers' own rules is not repeated.

    Args:
        model: as cut.
        seed: of the draw.

    Raises:
        BadInput: a module holds parameters and has no rule to draw them.
    """
    ruleless = [
        name or type(model).__name__
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False)) and not hasattr(module, "reset_parameters")
    ]
    if ruleless:
        raise BadInput(f"{ruleless[0]} has parameters and no reset_parameters: initialise this model by its own code")
    with torch_fork(seed, "initialise"):
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # pyright: ignore[reportCallIssue]
    return model
