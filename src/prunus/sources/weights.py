"""Weights from safetensors files into a model that is already built; what does not fit is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prunus.core.errors import BadInput, CorruptFile

if TYPE_CHECKING:
    from torch import Tensor, nn


def read_weights(path: str) -> dict[str, Tensor]:
    """Tensors of one safetensors file, by name.

    Raises:
        BadInput: no such file, or a pickled one (.pt, .pth, .bin), which is not read.
        CorruptFile: truncated, or something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise BadInput(f"there is no weight file {path!r}")
    if Path(path).suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl"):
        raise BadInput(f"{path} is pickled, which could run code when read: save the state dict as safetensors")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFile(f"{path} is no whole safetensors file: {error}") from error


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, source: str, partly: bool = False) -> None:
    """Copy weights into `model`; all names and shapes must agree.

    Args:
        model: changed in place.
        state: name -> tensor. Tied parameters may be left out when one of them is there.
        source: for messages.
        partly: leave alone what has another shape (a new classifier).

    Raises:
        BadInput: missing, unexpected or misshapen tensors, by name.
    """
    own = model.state_dict(keep_vars=True)
    shapes = [
        f"{n} {list(state[n].shape)} for {list(own[n].shape)}"
        for n in state
        if n in own and state[n].shape != own[n].shape
    ]
    if shapes and not partly:
        raise BadInput(
            f"{source} does not fit: {len(shapes)} tensors have other shapes, such as {'; '.join(shapes[:3])}"
        )
    there = {id(own[name]) for name in state if name in own}
    missing = [name for name, tensor in own.items() if name not in state and id(tensor) not in there]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        raise BadInput(
            f"{source} does not fit: it lacks {missing[:3] or 'nothing'} ({len(missing)}) "
            f"and has {unexpected[:3] or 'nothing'} ({len(unexpected)}) too much"
        )
    fitting = {name: tensor for name, tensor in state.items() if tensor.shape == own[name].shape}
    model.load_state_dict(fitting, strict=False)
