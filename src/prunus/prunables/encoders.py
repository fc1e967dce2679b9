"""Finding the token encoder inside a model by structure: its chain of blocks, their attention, and what leads the sequence.

timm, torchvision and transformers vision transformers are read by attribute names and parameter names, never by class path.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from torch import nn

from prunus.core.errors import BadInput
from prunus.signals.cls_attention import projections

ATTENTION = ("attn", "self_attn", "self_attention", "attention")
CLS = ("cls_token", "class_token", "class_embedding")
REGISTERS = ("reg_token", "register_tokens")
OTHERS = ("dist_token", "distillation_token")


@dataclass(frozen=True)
class Encoder:
    """A chain of blocks that keeps `[B, prefix + tokens, d]`.

    Attributes:
        blocks: qualified names, in order.
        attention: name of the attention module inside a block.
        prefix: leading tokens that are no patches.
        has_cls: whether the first of them is a CLS token.
        tokens: patches of an image, N.
        root: qualified name of the vision encoder ("" for a model that is one).
        feature_block: index of the block whose output a language model reads; None for classifiers.
    """

    blocks: tuple[str, ...]
    attention: str
    prefix: int
    has_cls: bool
    tokens: int
    root: str = ""
    feature_block: int | None = None


def find_encoder(model: nn.Module) -> Encoder:
    """Locate the encoder.

    Raises:
        BadInput: none is found, or tokens can't leave it (windows, rotary or relative positions).
    """
    root = vision_root(model)
    vision = model.get_submodule(root)
    chains = _chains(vision)
    if not chains:
        raise BadInput(
            f"no chain of attention blocks in {type(vision).__name__}: tokens are pruned in timm, torchvision and "
            "transformers vision transformers, and in LLaVA"
        )
    if len(chains) > 1:
        raise BadInput(
            f"{type(vision).__name__} has {len(chains)} chains of attention blocks ({', '.join(chains)}): a pyramid reshapes "
            "tokens to a grid between them, so none can leave"
        )
    (chain, attention), *_ = chains.items()
    container = vision.get_submodule(chain)
    blocks = tuple(_join(root, chain, name) for name, _ in container.named_children())
    _check_block(next(iter(container.children())), attention)
    prefix, has_cls = _prefix(vision)
    feature = _feature_block(model, len(blocks)) if root else None
    return Encoder(blocks, attention, prefix, has_cls, _token_count(vision), root, feature)


def vision_root(model: nn.Module) -> str:
    """Name of the vision tower of a model with a multimodal projector; "" for a plain encoder."""
    for name, module in model.named_modules():
        children = dict(module.named_children())
        if "vision_tower" in children and "multi_modal_projector" in children:
            return _join(name, "vision_tower")
    return ""


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _chains(vision: nn.Module) -> dict[str, str]:
    """Container name -> attention name, for every list of blocks of one class that own an attention."""
    found: dict[str, str] = {}
    for name, module in vision.named_modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)) or len(module) == 0:
            continue
        if len({type(child) for child in module}) != 1 or any(name.startswith(f"{outer}.") for outer in found):
            continue
        first = next(iter(module))
        attention = [a for a in ATTENTION if isinstance(getattr(first, a, None), nn.Module)]
        if attention:
            found[name] = attention[0]
    return found


def _check_block(block: nn.Module, attention: str) -> None:
    if (
        "position_embeddings" in inspect.signature(block.forward).parameters
        or "rope" in inspect.signature(block.forward).parameters
    ):
        raise BadInput(
            f"{type(block).__name__} takes rotary positions of the whole grid: tokens that leave would shift the rest"
        )
    module = getattr(block, attention)
    if any("relative_position" in name or name.startswith("rel_pos") for name, _ in module.named_parameters()):
        raise BadInput(f"{type(module).__name__} has relative positions of the whole grid: no token can leave")
    projections(module)


def _prefix(vision: nn.Module) -> tuple[int, bool]:
    """Leading tokens, told by the parameters that make them."""
    count, has_cls = 0, False
    for name, parameter in vision.named_parameters():
        last = name.rpartition(".")[2]
        if last in CLS:
            count, has_cls = count + 1, True
        elif last in REGISTERS:
            count += parameter.shape[-2]
        elif last in OTHERS:
            count += 1
    declared = getattr(vision, "num_prefix_tokens", count)
    if declared != count:
        raise BadInput(f"{type(vision).__name__} declares {declared} leading tokens, its parameters make {count}")
    return count, has_cls


def _token_count(vision: nn.Module) -> int:
    """N, from what the patch embedding says of itself."""
    for module in vision.modules():
        number = getattr(module, "num_patches", None)
        if isinstance(number, int):
            return number
    size, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    if isinstance(size, int) and isinstance(patch, int):
        return (size // patch) ** 2
    raise BadInput(f"{type(vision).__name__} does not say how many patches an image has: it needs num_patches")


def _feature_block(model: nn.Module, depth: int) -> int:
    """Index of the block whose output is the image feature; hidden state 0 is the embedding."""
    layer = getattr(getattr(model, "config", None), "vision_feature_layer", -1)
    if not isinstance(layer, int):
        raise BadInput(
            f"features of several layers {layer} are joined; with fewer tokens behind one of them they don't fit"
        )
    index = layer if layer >= 0 else depth + 1 + layer
    if not 1 <= index <= depth:
        raise BadInput(f"vision_feature_layer {layer} is no output of the {depth} blocks")
    return index - 1
