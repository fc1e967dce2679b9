"""Digits in clutter: small images whose true foreground is known, and a small vision transformer for them.

The one bed on which a token rule can be checked for what it should do, keep the patches that matter, with no download.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.errors import require
from prunus.core.rng import torch_rng


@dataclass(frozen=True)
class Canvas:
    """Where a digit is put.

    Attributes:
        side: of the canvas, in pixels.
        digit: side of the digit, enlarged from 8 x 8.
        noise: standard deviation of the clutter.
        step: places are multiples of so many pixels; equal to the patch, every digit is cut alike and is learnt sooner.
    """

    side: int = 32
    digit: int = 12
    noise: float = 0.15
    step: int = 1

    def place(self, digits: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Put each digit at a random place.

        Args:
            digits: `[B, 1, digit, digit]` in [0, 1].

        Returns:
            canvases `[B, 1, side, side]`, and the digit alone on an empty canvas, of the same shape.
        """
        batch, room = len(digits), (self.side - self.digit) // self.step + 1
        top, left = torch.randint(0, room, (2, batch), generator=generator) * self.step
        alone = torch.zeros(batch, 1, self.side, self.side)
        for row in range(batch):
            y, x = int(top[row]), int(left[row])
            alone[row, :, y : y + self.digit, x : x + self.digit] = digits[row]
        noise = torch.randn(alone.shape, generator=generator) * self.noise
        return alone + noise, alone

    def __call__(self, digits: Tensor, generator: torch.Generator) -> Tensor:
        """As an augmentation of `fit`: a fresh canvas each time a digit is seen."""
        return self.place(digits, generator)[0]


def digits(size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The 1,797 digits of scikit-learn, enlarged: fit x `[1400, 1, size, size]`, fit y, test x `[397, ...]`, test y."""
    found = require("sklearn.datasets", "data").load_digits()
    order = torch.randperm(1797, generator=torch_rng(0, "digits"))
    x = torch.from_numpy(found.images).float()[order, None] / 16
    y = torch.from_numpy(found.target).long()[order]
    x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return x[:1400], y[:1400], x[1400:], y[1400:]


def foreground(alone: Tensor, patch: int) -> Tensor:
    """bool `[B, N]`: patches that the digit touches."""
    return F.max_pool2d((alone > 0.1).float(), patch).flatten(1) > 0


class Attention(nn.Module):
    """Self-attention on torch's fused kernel, laid out as timm does."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, dim // heads
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, d]` -> the same."""
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(dim), Attention(dim, heads), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, d]` -> the same."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SmallViT(nn.Module):
    """A vision transformer with a CLS token.

    Args:
        side, patch: of square one-channel images.
        dim, depth, heads: of the encoder; the MLP is twice as wide.
        classes: outputs.
    """

    def __init__(
        self, side: int = 32, patch: int = 4, dim: int = 64, depth: int = 4, heads: int = 4, classes: int = 10
    ) -> None:
        super().__init__()
        self.num_patches = (side // patch) ** 2
        self.patch_embed = nn.Conv2d(1, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, self.num_patches + 1, dim) * 0.02)
        self.blocks = nn.ModuleList([Block(dim, heads, 2 * dim) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, 1, side, side]` -> logits `[B, classes]`."""
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))
