"""Digits in clutter: small images whose true foreground is known.

The one bed on which a token rule can be checked for what it should do, keep the patches that matter, with no download.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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
