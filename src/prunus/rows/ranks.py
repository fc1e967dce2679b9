"""What the ranks of one training tell each other: the losses of a batch, so that all of them plan the same epoch."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from prunus.core.errors import BadInput


def gathered(rows: NDArray[np.int64], losses: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows and losses of all ranks in the order of the rows; every rank must call this. Works over gloo.

    Args:
        rows: int64 `[b]`, of this rank; the ranks may have different numbers of them. Rows stay integers.
        losses: float32 `[b]`.

    Raises:
        BadInput: torch.distributed is not initialised.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise BadInput("several ranks share losses through torch.distributed: call init_process_group first")
    sizes = _all(torch.tensor([rows.size]))
    most = int(max(int(size) for size in sizes))
    padded_rows, padded_losses = np.zeros(most, dtype=np.int64), np.zeros(most, dtype=np.float32)
    padded_rows[: rows.size], padded_losses[: rows.size] = rows, losses
    all_rows, all_losses = _all(torch.from_numpy(padded_rows)), _all(torch.from_numpy(padded_losses))
    found = np.concatenate([part.numpy()[: int(size)] for part, size in zip(all_rows, sizes)])
    values = np.concatenate([part.numpy()[: int(size)] for part, size in zip(all_losses, sizes)])
    order = np.argsort(found, kind="stable")
    return found[order], values[order]


def _all(part: torch.Tensor) -> list[torch.Tensor]:
    """The same tensor of every rank; by the device that the group can use."""
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    parts = [torch.empty_like(part, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, part.to(device))
    return [one.cpu() for one in parts]
