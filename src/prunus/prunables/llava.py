"""LLaVA models: the prompt shrinks with the image. Placeholders, mask, labels and positions follow the tokens that stay.

transformers 5 merges image features into placeholder positions, and refuses other counts. Here the image path runs first
(with the gate in its vision tower, so only kept tokens are projected), the prompt is rewritten for T placeholders, and the
features are handed on as `mm_encoder_outputs`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.tokens.gate import TokenGate, gates
from prunus.tokens.splice import Prompt, resize_images


def attach_prompt(model: nn.Module, gate: TokenGate) -> None:
    """Let the model take prompts written for N tokens per image, in plain forward passes."""
    if hasattr(_image_model(model), "image_newline"):
        raise BadInput(
            f"{type(model).__name__} packs whole patch grids with newline tokens, which needs all patches of every tile; prune its "
            "tiles with tokens.anyres.kept_tokens and tokens.splice"
        )
    model.register_forward_pre_hook(_rewrite, with_kwargs=True)


def prune_prompt(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch with its images encoded and pruned, ready for `model(**batch)` or `model.generate(**batch)`.

    Args:
        model: a LLaVA model with a token gate.
        batch: input_ids and pixel_values, as a processor returns them; attention_mask, labels, position_ids where given.

    Returns:
        The same without pixel_values, with `mm_encoder_outputs`, and with T placeholders for each image. Under positions="gaps"
        also position_ids. A batch without pixel_values comes back as it is.
    """
    batch = dict(batch)
    pixels = batch.get("pixel_values")
    if pixels is None:
        return batch
    gate = _gate(model)
    core = _image_model(model)
    settings = {
        name: batch.pop(name)
        for name in ("vision_feature_layer", "vision_feature_select_strategy")
        if batch.get(name) is not None
    }
    outputs = _features(core, batch.pop("pixel_values"), settings)
    batch["mm_encoder_outputs"] = {"image": outputs}
    whole = settings.get("vision_feature_select_strategy", core.config.vision_feature_select_strategy) == "full"
    kept, span = _kept(gate, outputs.pooler_output, gate.prefix if whole else 0)
    prompt = _shrunk(batch, core.config.image_token_id, kept, span, gate.policy.positions)
    return batch if prompt is None else _with_prompt(batch, prompt, gate.policy.positions)


def _features(core: Any, pixels: Tensor, settings: dict[str, Any]) -> Any:
    try:
        return core.get_image_features(pixel_values=pixels, return_dict=True, **settings)
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{type(core).__name__} could not encode the pruned images ({error}); models that merge neighbouring patches before "
            "the projector need all of them"
        ) from error


def _gate(model: nn.Module) -> TokenGate:
    found = gates(model)
    if len(found) != 1:
        raise BadInput(f"the model has {len(found)} token gates where 1 is needed: apply a token plan first")
    return next(iter(found.values()))


def _image_model(model: nn.Module) -> Any:
    """The submodule that owns vision tower and projector."""
    for module in model.modules():
        if "vision_tower" in dict(module.named_children()):
            if not hasattr(module, "get_image_features"):
                break
            return module
    raise BadInput(f"{type(model).__name__} has no get_image_features: only transformers LLaVA models are supported")


def _kept(gate: TokenGate, features: Any, leading: int) -> tuple[Tensor, int]:
    """Positions `[images, leading + T]` of the kept features, and how many an image had."""
    kept = gate.kept
    if kept is None or kept.shape[0] != len(features) or features[0].shape[0] != leading + kept.shape[1]:
        raise BadInput(
            "the image features do not come from the gated block: vision_feature_layer was changed after the plan"
        )
    if leading:
        head = torch.arange(leading, device=kept.device).expand(kept.shape[0], leading)
        kept = torch.cat([head, kept + leading], 1)
    return kept, leading + gate.incoming


def _shrunk(batch: dict[str, Any], placeholder: int, kept: Tensor, span: int, positions: Any) -> Prompt | None:
    """The new prompt; None when the prompts were already written for T tokens."""
    ids = batch.get("input_ids")
    if ids is None:
        raise BadInput("pruning image tokens rewrites the prompt: pass input_ids, not inputs_embeds")
    found = int((ids == placeholder).sum())
    images, count = kept.shape
    if found == images * count and positions == "restart":
        return None
    run = span if found == images * span else count
    return resize_images(
        ids,
        placeholder,
        kept.to(ids.device),
        run=run,
        span=span,
        attention_mask=batch.get("attention_mask"),
        labels=batch.get("labels"),
        positions=positions,
    )


def _with_prompt(batch: dict[str, Any], prompt: Prompt, positions: str) -> dict[str, Any]:
    had_mask, had_positions = batch.get("attention_mask") is not None, batch.get("position_ids") is not None
    batch["input_ids"] = prompt.input_ids
    if had_mask or not bool(prompt.attention_mask.all()):
        batch["attention_mask"] = prompt.attention_mask
    if batch.get("labels") is not None:
        batch["labels"] = prompt.labels
    if positions == "gaps" or had_positions:
        batch["position_ids"] = prompt.position_ids
    return batch


def _rewrite(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[()], dict[str, Any]] | None:
    """Before a forward pass: encode, prune, rewrite."""
    bound = inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
    call = {**{name: value for name, value in bound.items() if name != "kwargs"}, **bound.get("kwargs", {})}
    images = (call.get("mm_encoder_outputs") or {}).get("image")
    if images is not None and call.get("input_ids") is not None:
        _check_places(call["input_ids"], _image_model(model).config.image_token_id, images.pooler_output)
    if call.get("pixel_values") is None:
        return None
    return (), prune_prompt(model, call)


def _check_places(ids: Tensor, placeholder: int, features: Any) -> None:
    """generate() encodes the images itself and keeps its own copy of the prompt, so nothing can shrink it there."""
    places, given = int((ids == placeholder).sum()), sum(len(f) for f in features)
    if places and places != given:
        raise BadInput(
            f"the prompt has {places} image placeholders, the pruned images give {given} tokens: call "
            "model.generate(**prune_prompt(model, batch))"
        )
