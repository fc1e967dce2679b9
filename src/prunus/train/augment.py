"""Augmentation of whole batches: per-image Python costs more than a small network (lottery-ticket test bed)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image with probability one half. x: `[B, C, h, w]`."""
    chosen = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(chosen.to(x.device).view(-1, 1, 1, 1), x.flip(3), x)


def shift(x: Tensor, generator: torch.Generator, *, pixels: int = 4) -> Tensor:
    """Move each image by up to `pixels` in both directions; zeros come in. x: `[B, C, h, w]`."""
    batch, _, height, width = x.shape
    padded = F.pad(x, (pixels,) * 4)
    top, left = torch.randint(0, 2 * pixels + 1, (2, batch), generator=generator).to(x.device)
    rows = (top.view(-1, 1) + torch.arange(height, device=x.device)).view(batch, 1, height, 1)
    columns = (left.view(-1, 1) + torch.arange(width, device=x.device)).view(batch, 1, 1, width)
    at = torch.arange(batch, device=x.device).view(-1, 1, 1, 1)
    channels = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
    return padded[at, channels, rows, columns]


def flip_shift(x: Tensor, generator: torch.Generator, *, pixels: int = 4) -> Tensor:
    """The usual augmentation of small images: `flip`, then `shift`."""
    return shift(flip(x, generator), generator, pixels=pixels)
