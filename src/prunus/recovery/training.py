"""What trained recoveries share: length, masks, the trained subset, and the account of what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.prunables.roles import require_role
from prunus.train.kinds import BatchNorm
from prunus.train.loop import fit
from prunus.train.masks import Masks

Report = dict[str, float]
NORMS = (BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def train(
    model: nn.Module,
    data: Any,
    *,
    steps: int | None,
    epochs: int | None,
    masks: Masks | Mapping[str, Tensor] | None,
    norms_only: bool,
    report: Report | None,
    **settings: Any,
) -> nn.Module:
    """`fit` on fit rows, with masks; the model comes back in evaluation mode.

    Raises:
        SplitError: rows of val or test.
        BadInput: both steps and epochs, or no normalisation layer under `norms_only`.
    """
    require_role(data, {"fit"}, what="recovery")
    if steps is None and epochs is None:
        epochs = 1
    kept = Masks(model, masks) if isinstance(masks, Mapping) else masks
    with trained(model, norms_only=norms_only):
        history = fit(model, data, steps=steps, epochs=epochs, masks=kept, **settings)
    if report is not None:
        last = history.rows[-1]["loss"] if history.rows else float("nan")
        report |= {
            "steps": float(history.steps),
            "samples": float(history.samples),
            "cpu_seconds": history.cpu_seconds,
            "loss": last,
        }
    return model.eval()


@contextmanager
def trained(model: nn.Module, *, norms_only: bool) -> Iterator[None]:
    """Freeze all but normalisation layers for the time of the block; flags are restored."""
    if not norms_only:
        yield
        return
    norms = norm_parameters(model)
    if not norms:
        raise BadInput(f"{type(model).__name__} has no normalisation layer to train: leave norms_only out")
    with only(model, norms):
        yield


@contextmanager
def only(model: nn.Module, chosen: set[nn.Parameter]) -> Iterator[None]:
    """Freeze all but these parameters for the time of the block; flags are restored."""
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter in flags:
            parameter.requires_grad_(parameter in chosen)
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def norm_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Weights and biases of normalisation layers."""
    return {p for module in model.modules() if is_norm(module) for p in module.parameters(recurse=False)}


def is_norm(module: nn.Module) -> bool:
    """Normalisation layers, also those a library defines itself (LlamaRMSNorm)."""
    return isinstance(module, NORMS) or type(module).__name__.endswith(("LayerNorm", "RMSNorm", "BatchNorm"))
