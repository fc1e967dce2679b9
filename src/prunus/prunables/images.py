"""Image bytes to tensors: decoding, resizing, normalisation. What was done has an id, part of the keys of signals."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prunus.core.errors import BadInput, require

if TYPE_CHECKING:
    import numpy as np
    import torch

# Formats decoded without calling another program; EPS, for one, would start Ghostscript.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 100_000_000
NAMED = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
Normalise = str | tuple[Sequence[float], Sequence[float]] | None


class Unreadable(ValueError):
    """One value that can't be decoded; readers collect these and name the rows."""


@dataclass(frozen=True)
class Preprocess:
    """What happens to an image between its bytes and the model. The default leaves the size and gives floats in 0..1.

    Attributes:
        size: height and width after resizing; None leaves images as they are (they must then be equal within a batch).
        fit: crop (shorter side to `size`, centre crop) or squash (both sides to `size`).
        mode: RGB or L (one channel).
        mean: per channel, subtracted after scaling to 0..1.
        std: per channel, divided by.
    """

    size: int | None = None
    fit: Literal["crop", "squash"] = "crop"
    mode: Literal["RGB", "L"] = "RGB"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise BadInput(f"size must be at least 1 pixel, not {self.size}")
        if (self.mean is None) != (self.std is None) or any(not s > 0 for s in self.std or ()):
            raise BadInput(f"mean and std come together and std is positive: mean={self.mean}, std={self.std}")
        channels = 3 if self.mode == "RGB" else 1
        if self.mean is not None and not (len(self.mean) == len(self.std or ()) and len(self.mean) in (1, channels)):
            raise BadInput(f"mode {self.mode} has {channels} channels; mean={self.mean}, std={self.std}")

    @classmethod
    def of(
        cls, *, size: int | None = None, normalise: Normalise = None, fit: str = "crop", mode: str = "RGB"
    ) -> Preprocess:
        """From options; `normalise` is a name (imagenet, half, none) or a pair (mean, std)."""
        if fit not in ("crop", "squash") or mode not in ("RGB", "L"):
            raise BadInput(f"fit is crop or squash, mode RGB or L; got fit={fit!r}, mode={mode!r}")
        if isinstance(normalise, str):
            if normalise not in NAMED:
                raise BadInput(f"normalise={normalise!r}: known names are {', '.join(NAMED)}; or give (mean, std)")
            normalise = NAMED[normalise] if mode == "RGB" else tuple(side[:1] for side in NAMED[normalise])  # type: ignore[assignment]
        mean, std = (tuple(float(v) for v in side) for side in normalise) if normalise else (None, None)
        return cls(size=size, fit=fit, mode=mode, mean=mean, std=std)  # type: ignore[arg-type]

    @property
    def id(self) -> str:
        """A short text that tells two preprocessings apart."""
        norm = "0..1" if self.mean is None else f"{list(self.mean)}/{list(self.std or ())}"
        return f"image:{self.mode}:{self.size or 'as-is'}:{self.fit if self.size else '-'}:{norm}"

    def pixels(self, value: Any) -> np.ndarray:
        """uint8 `[channels, height, width]` of one image (bytes, {bytes, path}, PIL image or array).

        Raises:
            Unreadable: the value is not a whole image.
        """
        import numpy as np

        image = self._resized(_open(value)).convert(self.mode)
        array = np.asarray(image)
        return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))

    def _resized(self, image: Any) -> Any:
        if self.size is None or image.size == (self.size, self.size):
            return image
        if image.mode not in ("RGB", "L"):
            image = image.convert("RGB")
        size, (width, height) = self.size, image.size
        if self.fit == "crop" and width != height:
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        width, height = image.size
        if width % size == 0 and height % size == 0:
            return image.reduce((width // size, height // size))  # exact mean pooling
        resampling = require("PIL.Image", "data").Resampling
        return image.resize((size, size), resampling.BOX if size < min(width, height) else resampling.BICUBIC)

    def tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """float32 `[..., channels, height, width]`, normalised, from uint8 of the same shape."""
        import torch

        scaled = pixels.to(torch.float32).div_(255.0)
        if self.mean is None:
            return scaled
        mean, std = (torch.tensor(side).reshape(-1, 1, 1) for side in (self.mean, self.std))
        return scaled.sub_(mean).div_(std)


def is_image(value: Any) -> bool:
    """Whether a cell holds an image: bytes, a Hugging Face {bytes, path} dict, or a PIL image."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return True
    if isinstance(value, dict):
        return "bytes" in value
    return hasattr(value, "convert") and hasattr(value, "getbands")


def _open(value: Any) -> Any:
    if isinstance(value, dict):
        value = value.get("bytes")
    if value is None:
        raise Unreadable("no bytes")
    if not isinstance(value, (bytes, bytearray, memoryview)):
        return value
    module = require("PIL.Image", "data")
    try:
        image = module.open(io.BytesIO(value), formats=FORMATS)
        if image.size[0] * image.size[1] > MAX_PIXELS:
            raise Unreadable(f"{image.size[0]} x {image.size[1]} pixels is more than {MAX_PIXELS}")
        image.load()
    except Unreadable:
        raise
    except Exception as error:  # decoders raise many types on hostile bytes
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    return image
