"""Stability of each row: cosine of its embedding with that of the same image, its tiles shuffled (Cheng et al. 2024).

Tiles are squares of a quarter of the image's shorter side (8 pixels of 32; the paper cuts faces of 256 into four of 128).
One permutation, always the same for the same number of tiles, serves all images, so a row's value depends on nothing
but the row. A border that fills no tile stays where it is. Costs a second forward pass. A zero embedding has cosine 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from prunus.core.errors import BadInput
from prunus.core.rng import torch_rng
from prunus.signals import embedding
from prunus.signals.inputs import float_input, with_input
from prunus.signals.scan import Accumulator
from prunus.train.step import Step

PROVIDES = ("stability",)
LEVEL = "rows"
VERSION = 1
MEMORY = "4 * rows"
TILES = 4


class Accumulate(Accumulator):
    """float32 `[B]` in [-1, 1]."""

    def start(self) -> None:
        """Watch for the embedding, as the signal of that name does."""
        self._embedding = embedding.Accumulate(self.scan, frozenset(embedding.PROVIDES))
        self._embedding.start()

    def batch(self, step: Step, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
        """A second pass, over the shuffled batch, which no other signal sees."""
        plain = self._embedding.batch(step, ())["embedding"]
        assert self.scan.step is not None
        with self.scan.pause(but=self._embedding), torch.no_grad():
            shuffled = self.scan.step(self.scan.model, _shuffled(self.scan.batch))
            other = self._embedding.batch(shuffled, ())["embedding"]
        return {"stability": F.cosine_similarity(plain, other, dim=1)}


def shuffled_tiles(x: Tensor) -> Tensor:
    """The images with their tiles in another order. x: `[B, C, h, w]`."""
    side = max(min(x.shape[-2:]) // TILES, 1)
    rows, columns = x.shape[-2] // side, x.shape[-1] // side
    order = torch.randperm(rows * columns, generator=torch_rng(0, f"stability/{rows}x{columns}")).to(x.device)
    part = x[..., : rows * side, : columns * side]
    tiles = part.unflatten(-2, (rows, side)).unflatten(-1, (columns, side)).transpose(-3, -2)
    moved = tiles.flatten(-4, -3)[:, :, order].unflatten(-3, (rows, columns)).transpose(-3, -2)
    made = x.clone()
    made[..., : rows * side, : columns * side] = moved.flatten(-2).flatten(-3, -2)
    return made


def _shuffled(batch: Any) -> Any:
    """The batch with its images shuffled."""
    x = float_input(batch, "stability")
    if x.dim() != 4:
        raise BadInput(
            f"stability shuffles the tiles of images [B, C, h, w], and the batch holds a tensor of shape {list(x.shape)}: "
            "leave it out"
        )
    return with_input(batch, shuffled_tiles(x))
