"""Block-diagonal inverse of an empirical Fisher matrix, and Optimal Brain Surgeon inside each block (Kurtic et al. 2022).

The weights of a layer are flattened output by output, padded with zeros to whole blocks. All blocks are solved in batches of a
bounded size, in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prunus.core.errors import BadInput, NonFinite

HELD = 8_000_000  # numbers of float64 blocks that are worked on at once


def in_blocks(values: Tensor, width: int) -> Tensor:
    """`[...]` flattened to `[blocks, width]`, zeros behind the last value."""
    flat = values.reshape(-1)
    return F.pad(flat, (0, -flat.numel() % width)).reshape(-1, width)


def check_blocks(name: str, weight: Tensor, fisher: Tensor, group: int = 1) -> None:
    """Refuse blocks that are not of this `[outputs, inputs]` weight, and runs of inputs that do not fit."""
    if fisher.dim() != 3 or -(-weight.numel() // fisher.shape[1]) != len(fisher):
        raise BadInput(
            f"{name} has {weight.numel()} weights, which its Fisher blocks {tuple(fisher.shape)} do not cover"
        )
    if group < 1 or weight.shape[1] % group or fisher.shape[1] % group:
        raise BadInput(
            f"{name}: runs of {group} do not divide {weight.shape[1]} inputs and blocks of {fisher.shape[1]}: "
            "give fisher_block a multiple, or leave the layer out"
        )


def damping(fisher: Tensor, damp: float, *, absolute: bool, name: str = "") -> float:
    """What is added to the diagonal: `damp` itself, or that share of the mean diagonal.

    Args:
        fisher: `[blocks, width, width]`.

    Raises:
        BadInput: not blocks, or damping that is not positive. NonFinite: NaN or infinity.
    """
    if fisher.dim() != 3 or fisher.shape[1] != fisher.shape[2]:
        raise BadInput(f"the block Fisher matrix of {name} is [blocks, width, width], not {tuple(fisher.shape)}")
    if damp <= 0:
        raise BadInput(f"damp must be above 0, not {damp}")
    diagonal = fisher.diagonal(dim1=1, dim2=2)
    if not bool(torch.isfinite(diagonal).all()):
        raise NonFinite(f"the Fisher matrix of {name} is not finite: look at the gradients of the calibration rows")
    if absolute:
        return damp
    return max(damp * float(diagonal.double().mean()), torch.finfo(torch.float32).tiny)


def inverse(fisher: Tensor, add: float) -> Tensor:
    """(fisher + add I)^-1 of every block, float64. One batched Cholesky: no loop over gradients or blocks."""
    matrix = fisher.double()
    matrix = matrix + add * torch.eye(matrix.shape[1], dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed.any()):
        raise BadInput(
            f"{int((failed > 0).sum())} blocks of the Fisher matrix are singular with {add:g} on the diagonal: raise damp"
        )
    return torch.cholesky_inverse(factor)


def losses(weight: Tensor, fisher: Tensor, add: float, group: int = 1) -> Tensor:
    """Loss from removing `group` consecutive weights of a block at once, the rest of the block making up for it.

    Args:
        weight: any shape; flattened.
        fisher: `[blocks, width, width]`.
        add: on the diagonal.
        group: weights that go together; divides the width.

    Returns:
        float64 in the shape of the weight: 1/2 w_Q^T (inverse_QQ)^-1 w_Q for all members of Q.
    """
    parts = [
        _losses(w, inverse(f, add), group) for w, f in _pieces(in_blocks(weight, fisher.shape[1]).double(), fisher)
    ]
    return torch.cat(parts).reshape(-1)[: weight.numel()].reshape(weight.shape)


def _losses(weight: Tensor, spread: Tensor, group: int) -> Tensor:
    if group == 1:
        return weight.square() / (2 * spread.diagonal(dim1=1, dim2=2))
    count, width = weight.shape
    diagonal = spread.reshape(count, width // group, group, width // group, group).diagonal(dim1=1, dim2=3)
    members = weight.reshape(count, width // group, group, 1)
    solved = torch.linalg.solve(diagonal.permute(0, 3, 1, 2), members)
    return (0.5 * (members * solved).sum((2, 3))).repeat_interleave(group, 1)


def update(
    weight: Tensor, fisher: Tensor, gone: Tensor, add: float, *, joint: bool = True, group: int = 1
) -> tuple[Tensor, float]:
    """New weights after the removed ones, and the loss that the quadratic model says it costs.

    Args:
        weight: any shape; flattened.
        fisher: `[blocks, width, width]`.
        gone: bool in the shape of the weight: what goes now.
        add: on the diagonal.
        joint: solve for all removed weights of a block at once, which is best for the quadratic model; else each group's own
            update, summed, as released.
        group: not joint: consecutive weights that are solved together.

    Returns:
        float64 in the shape of the weight, zero where gone.
    """
    width = fisher.shape[1]
    old, out = in_blocks(weight, width).double(), in_blocks(gone.to(torch.float64), width)
    together = torch.arange(width) // group
    pairs = torch.ones(width, width) if joint else (together[:, None] == together).double()
    new: list[Tensor] = []
    loss = 0.0
    for w, f, p in _pieces(old, fisher, out):
        spread = inverse(f, add)
        inner = spread * pairs * p.unsqueeze(1) * p.unsqueeze(2) + torch.diag_embed(1 - p)
        pushed = torch.linalg.solve(inner, (p * w).unsqueeze(2)).squeeze(2)  # zero where nothing goes
        changed = torch.where(p > 0, 0.0, w - (spread @ pushed.unsqueeze(2)).squeeze(2))
        new.append(changed)
        change = changed - w
        loss += float(0.5 * ((change.unsqueeze(1) @ f.double()).squeeze(1) * change).sum())
        loss += 0.5 * add * float(change.square().sum())
    return torch.cat(new).reshape(-1)[: weight.numel()].reshape(weight.shape), loss


def _pieces(*tensors: Tensor):
    """The same few blocks of every tensor at a time."""
    size = max(1, HELD // tensors[1][0].numel())
    return zip(*(tensor.split(size) for tensor in tensors))
