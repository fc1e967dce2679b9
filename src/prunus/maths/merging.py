"""Two trainings of one network made one: tensors between two others, along a line or along an arc."""

from __future__ import annotations

import torch
from torch import Tensor

from prunus.core.errors import BadInput

PARALLEL = 0.9995  # |cosine| above which the arc is a line


def slerp(first: Tensor, second: Tensor, t: float) -> tuple[Tensor, bool]:
    """Spherical interpolation of whole tensors, weights applied to the tensors as they are (Shoemake 1985).

    Args:
        first, second: of one shape.
        t: 0 gives the first, 1 the second.

    Returns:
        the tensor in the type of `first`, and whether it lies on the arc; tensors almost parallel, or zero, are mixed on a line.
    """
    if first.shape != second.shape:
        raise BadInput(f"tensors of shapes {list(first.shape)} and {list(second.shape)} can't be merged")
    one, other = first.double(), second.double()
    norms = float(one.norm()), float(other.norm())
    cosine = float((one * other).sum()) / (norms[0] * norms[1]) if min(norms) > 0 else 1.0
    if abs(cosine) > PARALLEL:
        return ((1 - t) * one + t * other).to(first.dtype), False
    angle = torch.arccos(torch.tensor(cosine, dtype=torch.float64))
    shares = torch.sin((1 - t) * angle) / torch.sin(angle), torch.sin(t * angle) / torch.sin(angle)
    return (shares[0] * one + shares[1] * other).to(first.dtype), True
