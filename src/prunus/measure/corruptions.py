"""Common corruptions of pictures, in five severities, after CIFAR-10-C (Hendrycks and Dietterich 2019).

Made here, with strengths of our own for small pictures: numbers are not comparable with those of the published sets. Noise is
drawn by corruption, severity and the row's id, so every model sees the same pictures in whatever batches.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from prunus.core.errors import BadInput, UnknownName, require
from prunus.core.rng import torch_rng

Picture = NDArray[np.float64]  # [c, h, w], 0 to 1
STRENGTHS: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (0.02, 0.04, 0.06, 0.08, 0.10),  # standard deviation
    "shot_noise": (500, 250, 100, 75, 50),  # photons at white
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),  # share of values
    "blur": (0.4, 0.6, 0.8, 1.0, 1.5),  # pixels
    "motion_blur": (2, 3, 4, 5, 7),  # pixels
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # what is left of it
    "fog": (0.1, 0.2, 0.3, 0.45, 0.6),  # share of light grey
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # side that is left
    "jpeg": (80, 65, 58, 50, 40),  # quality
}
SEVERITIES = 5
GREY = 0.8


def corrupt(pictures: torch.Tensor, name: str, severity: int, ids: Sequence[Any]) -> torch.Tensor:
    """The same pictures, worse.

    Args:
        pictures: `[n, c, h, w]`, 0 to 1.
        name: one of `STRENGTHS`.
        severity: 1 to 5; 0 changes nothing.
        ids: of the rows.

    Returns:
        `[n, c, h, w]`, 0 to 1, float32.

    Raises:
        BadInput: values outside of 0 to 1: normalise afterwards.
    """
    if name not in STRENGTHS:
        raise UnknownName("corruption", name, STRENGTHS)
    if severity not in range(SEVERITIES + 1):
        raise BadInput(f"severities are 0 to {SEVERITIES}, not {severity}")
    if pictures.dim() != 4 or (pictures.numel() and (pictures.min() < -1e-4 or pictures.max() > 1 + 1e-4)):
        raise BadInput("corruptions are of pictures [n, c, h, w] with values from 0 to 1, before they are normalised")
    if severity == 0:
        return pictures.float()
    strength, made = STRENGTHS[name][severity - 1], []
    for picture, key in zip(pictures.double().cpu().numpy(), ids, strict=True):
        seed = int(torch.randint(2**62, (1,), generator=torch_rng(0, f"corruption/{name}/{severity}/{key}")))
        made.append(np.clip(KINDS[name](picture, strength, np.random.default_rng(seed)), 0, 1))
    return torch.from_numpy(np.stack(made)).float()


def _impulse(x: Picture, share: float, rng: np.random.Generator) -> Picture:
    draw = rng.random(x.shape)
    return np.where(draw < share / 2, 0.0, np.where(draw > 1 - share / 2, 1.0, x))


def _motion(x: Picture, length: float, rng: np.random.Generator) -> Picture:
    return ndimage.uniform_filter1d(x, int(length), axis=int(rng.integers(1, 3)), mode="nearest")


def _contrast(x: Picture, left: float, rng: np.random.Generator) -> Picture:
    mean = x.mean((1, 2), keepdims=True)
    return mean + left * (x - mean)


def _pixelate(x: Picture, left: float, rng: np.random.Generator) -> Picture:
    size = [max(round(left * side), 1) for side in x.shape[1:]]
    down, up = (torch.from_numpy(x)[None], [*x.shape[1:]])
    small = torch.nn.functional.interpolate(down, size, mode="area")
    return torch.nn.functional.interpolate(small, up, mode="nearest")[0].numpy()


def _jpeg(x: Picture, quality: float, rng: np.random.Generator) -> Picture:
    image = require("PIL.Image", "data")
    values = (255 * x).round().astype(np.uint8)
    buffer = io.BytesIO()
    image.fromarray(values[0] if len(x) == 1 else values.transpose(1, 2, 0)).save(buffer, "JPEG", quality=int(quality))
    found = np.asarray(image.open(buffer), dtype=np.float64) / 255
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


KINDS: dict[str, Callable[[Picture, float, np.random.Generator], Picture]] = {
    "gaussian_noise": lambda x, strength, rng: x + rng.normal(0, strength, x.shape),
    "shot_noise": lambda x, photons, rng: rng.poisson(x.clip(0, 1) * photons) / photons,
    "impulse_noise": _impulse,
    "blur": lambda x, sigma, rng: ndimage.gaussian_filter(x, (0, sigma, sigma), mode="nearest"),
    "motion_blur": _motion,
    "brightness": lambda x, added, rng: x + added,
    "contrast": _contrast,
    "fog": lambda x, share, rng: (1 - share) * x + share * GREY,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
