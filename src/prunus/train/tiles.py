"""Several images in one, and crops that never leave a tile of it: combine and augment of "prune, combine, augment" (2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from prunus.core.errors import BadInput


def boxes(height: int, width: int, factor: int) -> Tensor:
    """int64 `[factor ** 2, 4]`: top, left, height, width of each tile, row by row; pixels that divide by no factor are left over."""
    if not 1 <= factor <= min(height, width):
        raise BadInput(f"factor must be 1 to {min(height, width)} for images of {height} x {width}, not {factor}")
    down, across = height // factor, width // factor
    places = [(row * down, column * across) for row in range(factor) for column in range(factor)]
    return torch.tensor([(top, left, down, across) for top, left in places])


def tiled(images: Tensor, factor: int) -> Tensor:
    """Shrink every image to a tile and lay each `factor ** 2` in turn into one image, row by row.

    Args:
        images: float `[k * factor ** 2, c, h, w]`.
        factor: tiles across and down.

    Returns:
        `[k, c, h, w]`, a little smaller where h or w do not divide by `factor`. A pixel is the mean of the pixels it
        covers.
    """
    rows, channels, height, width = images.shape
    if rows % factor**2:
        raise BadInput(f"{rows} images can't be laid {factor**2} to one: their number must be a multiple of it")
    _, _, down, across = boxes(height, width, factor)[0].tolist()
    small = F.adaptive_avg_pool2d(images, (down, across))
    grid = small.view(-1, factor, factor, channels, down, across).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, factor * down, factor * across)


@dataclass(frozen=True)
class TileCrop:
    """An augmentation: a random part of one tile of each image, enlarged to the whole; what is beside the tile is never seen.

    Attributes:
        factor: tiles across and down; 1 = the whole image is one tile.
        scale: least and largest share of the tile's area that is kept.
        ratio: least and largest width over height of the part; a part that leaves the tile is cut at its border.
    """

    factor: int
    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise BadInput(f"scale is two shares of a tile's area, 0 < least <= largest <= 1, not {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise BadInput(f"ratio is two numbers, 0 < least <= largest, not {self.ratio}")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x: `[B, c, h, w]`, float."""
        parts = self.draw(len(x), x.shape[2], x.shape[3], generator)
        rows = self._places(parts, 0, x.shape[2]).to(x)
        columns = self._places(parts, 1, x.shape[3]).to(x)
        grid = torch.stack(
            [columns[:, None, :].expand(-1, x.shape[2], -1), rows[:, :, None].expand(-1, -1, x.shape[3])], -1
        )
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """float64 `[count, 8]`: top, left, height, width of the tile, then of the part of it, in pixels."""
        every = boxes(height, width, self.factor).double()
        tile = every[torch.randint(len(every), (count,), generator=generator)]
        share, shape, down, across = torch.rand(4, count, generator=generator, dtype=torch.float64)
        area = self.scale[0] + share * (self.scale[1] - self.scale[0])
        low, high = (torch.tensor(one, dtype=torch.float64).log() for one in self.ratio)
        aspect = (low + shape * (high - low)).exp()
        size = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], 1).clamp(max=1) * tile[:, 2:]
        corner = tile[:, :2] + torch.stack([down, across], 1) * (tile[:, 2:] - size)
        return torch.cat([tile, corner, size], 1)

    @staticmethod
    def _places(parts: Tensor, axis: Literal[0, 1], length: int) -> Tensor:
        """Where the pixels of the result lie along one axis, `[B, length]` in [-1, 1]; none between two tiles."""
        start, size, first, extent = (parts[:, index + axis, None] for index in (4, 6, 0, 2))
        at = start + (torch.arange(length, dtype=torch.float64) + 0.5) / length * size
        inside = torch.minimum(torch.maximum(at, first + 0.5), first + extent - 0.5)
        return 2 * inside / length - 1
