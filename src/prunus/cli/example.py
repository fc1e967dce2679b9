"""An example input for a model of any known kind, where no rows are at hand: what `prunus check` and `prunus apply` record with."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

    from prunus.cli.inputs import Model

DIGITS = 8
CIFAR = 32
IMAGENET = 224
TOKENS = 32


def example_for(model: Model, *, size: int = 0, shape: str = "", seq: int = 0) -> Any:
    """Zeros of the shape the model takes.

    Args:
        model: opened.
        size: height and width instead of the model's own.
        shape: `1,3,64,64`: the whole shape of its one tensor.
        seq: tokens of a text model.

    Returns:
        A tensor, a tuple of arguments or a dict of keywords.

    Raises:
        BadInput: the kind of input can't be told.
    """
    import torch

    if shape:
        return torch.zeros(_shape(shape))
    for plan in model.plans:
        if not size and not seq and "example" in plan.provenance:
            from prunus.graph.example import restore

            return restore(plan.provenance["example"])
    makers = {"timm": _timm, "torchvision": _torchvision, "prunus": _own}
    if model.scheme in makers:
        return makers[model.scheme](model, size)
    if hasattr(model.net, "config"):
        return _transformers(model.net, size, seq)
    raise BadInput(f"can't tell what {model.spec} is called with: add --shape, such as --shape 1,3,224,224")


def one_row(example: Any) -> Any:
    """The first row of an example: MACs of a plan are those of one row, as those that are measured."""
    if isinstance(example, dict):
        return {name: one_row(value) for name, value in example.items()}
    if isinstance(example, tuple):
        return tuple(one_row(value) for value in example)
    return example[:1] if hasattr(example, "dim") and example.dim() else example


def _shape(text: str) -> list[int]:
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise BadInput(f"--shape is a list of sizes such as 1,3,224,224, not {text!r}")
    return [int(part) for part in parts]


def _timm(model: Model, size: int) -> Any:
    import torch

    config: dict[str, Any] = getattr(model.net, "pretrained_cfg", None) or {}
    channels, height, width = config.get("input_size", (3, IMAGENET, IMAGENET))
    channels = int(model.made["options"].get("in_chans", channels))
    own: Any = model.made["options"].get("img_size", 0)
    side = size or (own if isinstance(own, int) else 0)
    return torch.zeros(1, channels, side or height, side or width)


def _torchvision(model: Model, size: int) -> Any:
    import torch

    kind = type(model.net).__module__.split(".")[2]
    side = size or _published_size(model.made["source"].partition(":")[2])
    if kind == "detection":
        return ([torch.zeros(3, side, side)],)
    if kind == "video":
        return torch.zeros(1, 3, 16, side, side)
    if kind == "optical_flow":
        side = size or 128
        return (torch.zeros(1, 3, side, side), torch.zeros(1, 3, side, side))
    return torch.zeros(1, 3, side, side)


def _published_size(name: str) -> int:
    """What the published weights were made for."""
    from torchvision import models

    try:
        published: Any = models.get_model_weights(name)
        preset: Any = published.DEFAULT.transforms()
    except (ValueError, AttributeError):
        return IMAGENET
    for field in ("crop_size", "resize_size"):
        sizes = getattr(preset, field, None)
        if sizes:
            return int(sizes[0])
    return IMAGENET


def _own(model: Model, size: int) -> Any:
    import torch

    options = model.made["options"]
    if model.made["source"] == "prunus:tinycnn":
        return torch.zeros(1, int(options.get("channels", 1)), size or DIGITS, size or DIGITS)
    if model.made["source"] == "prunus:tinyvit":
        side = int(options.get("size", 16))
        return torch.zeros(1, int(options.get("channels", 3)), side, side)
    return torch.zeros(1, 3, size or CIFAR, size or CIFAR)


def _transformers(net: nn.Module, size: int, seq: int) -> Any:
    import torch

    config: Any = net.config
    tokens = torch.zeros(1, seq or TOKENS, dtype=torch.long)
    name = str(getattr(net, "main_input_name", "input_ids"))
    takes = inspect.signature(net.forward).parameters
    found: dict[str, Any] = {}
    if name == "pixel_values" or "pixel_values" in takes:
        vision: Any = getattr(config, "vision_config", config)
        side = size or getattr(vision, "image_size", IMAGENET)
        height, width = side if isinstance(side, list | tuple) else (side, side)
        found["pixel_values"] = torch.zeros(1, getattr(vision, "num_channels", 3), height, width)
    if name == "input_ids" or (found and "input_ids" in takes):
        found["input_ids"] = tokens
    if not found:
        raise BadInput(f"{type(net).__name__} takes {name}, which can't be made up: add --shape")
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in takes:
        found["decoder_input_ids"] = tokens
    if "use_cache" in takes:
        found["use_cache"] = False
    return found
