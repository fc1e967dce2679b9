"""Input down-sampling: the control of every token plan. A smaller image gives as few tokens, for less work than any rule.

The model is copied, its position embeddings are resized bicubically, and images are resized before they enter.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.prunables.encoders import Encoder, find_encoder
from prunus.train.copies import copied

POSITIONS = ("pos_embed", "pos_embedding")


class ShrinkImage(nn.Module):
    """Resizes the images before the model sees them.

    Args:
        side: pixels of the new square image.
        interpolates: whether the model resizes its own positions when asked (transformers).
    """

    def __init__(self, side: int, interpolates: bool) -> None:
        super().__init__()
        self.side, self.interpolates = side, interpolates

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, C, side, side]`."""
        size = (self.side, self.side)
        return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)

    def before(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The hook in front of the model."""
        if self.interpolates:
            kwargs = {**kwargs, "interpolate_pos_encoding": True}
        if args:
            return (self(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "pixel_values": self(kwargs["pixel_values"])}


def downsampled(model: nn.Module, tokens: int) -> tuple[nn.Module, int]:
    """A copy of an encoder that reads smaller images.

    Args:
        model: a vision transformer with square images.
        tokens: at most so many patches.

    Returns:
        The model, and how many patches it really has: the largest square that is not above `tokens`.

    Raises:
        BadInput: no square grid, or a model whose positions can't be resized.
    """
    encoder = find_encoder(model)
    old, new = round(encoder.tokens**0.5), int(tokens**0.5)
    if encoder.root or old * old != encoder.tokens or not 1 <= new <= old:
        raise BadInput(
            f"{encoder.tokens} patches can't be down-sampled to {tokens}: it takes a plain encoder with a square grid"
        )
    small = copied(model)
    side = _patch(small) * new
    interpolates = _resize(small, encoder, old, new, side)
    shrink = ShrinkImage(side, interpolates)
    small.add_module("shrink_image", shrink)
    small.register_forward_pre_hook(shrink.before, with_kwargs=True)
    return small, new * new


def _patch(model: nn.Module) -> int:
    """Pixels of a patch: the stride of the first convolution."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return int(module.stride[0])
    raise BadInput(f"{type(model).__name__} has no patch convolution")


def _resize(model: nn.Module, encoder: Encoder, old: int, new: int, side: int) -> bool:
    """Make the model accept the smaller grid; True when it does so itself on request."""
    set_size = getattr(model, "set_input_size", None)
    if set_size is not None:
        set_size(img_size=side)
        return False
    if hasattr(model, "config"):
        return True
    for owner in model.modules():
        for name in POSITIONS:
            positions = getattr(owner, name, None)
            if isinstance(positions, nn.Parameter) and positions.shape[1] == encoder.prefix + old * old:
                setattr(owner, name, nn.Parameter(_grid(positions.detach(), encoder.prefix, old, new)))
                _sizes(model, encoder.prefix, new, side)
                return False
    raise BadInput(f"{type(model).__name__} has no position embeddings that can be resized")


def _grid(positions: Tensor, prefix: int, old: int, new: int) -> Tensor:
    """`[1, prefix + old * old, d]` -> `[1, prefix + new * new, d]`."""
    head, grid = positions[:, :prefix], positions[:, prefix:]
    shaped = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(shaped, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([head, resized.permute(0, 2, 3, 1).reshape(1, new * new, -1)], 1)


def _sizes(model: nn.Module, prefix: int, new: int, side: int) -> None:
    """Literal sizes that torchvision and small models keep beside their parameters."""
    for name, value in (("image_size", side), ("seq_length", prefix + new * new), ("num_patches", new * new)):
        if isinstance(getattr(model, name, None), int):
            setattr(model, name, value)
