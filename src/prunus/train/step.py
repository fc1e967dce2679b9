"""What one batch yields, whatever the task: `step(model, batch) -> Step`. Losses are per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.train.kinds import BatchNorm, Dropout
from prunus.train.modes import modes_kept

Batch = Any
LossFn = Callable[[Tensor, Tensor], Tensor]
IGNORED = -100  # the label torch and transformers leave out of a cross-entropy


@dataclass
class Step:
    """One batch after the forward pass.

    Attributes:
        ids: int64 or unicode `[B]`, or None when the batch carries none.
        logits: `[B, c]` or `[B, T, c]`, or None (detection).
        labels: int `[B]` or `[B, T]`, float `[B, ...]` for regression, or None.
        loss: float `[B]`, differentiable when gradients are on, or None without labels.
        embedding: `[B, d]`, or None (the collector then takes the input of the last linear layer).
        losses: task -> float `[B]`, of models with several, or None.
    """

    ids: np.ndarray | None
    logits: Tensor | None
    labels: Tensor | None
    loss: Tensor | None
    embedding: Tensor | None = None
    losses: Mapping[str, Tensor] | None = None


StepFn = Callable[[nn.Module, Batch], Step]


def per_row_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each row, in float32 (float64 for such logits): the mean over its labelled tokens when `logits` is `[B, T, c]`.

    Args:
        logits: `[B, c]` or `[B, T, c]`.
        labels: int `[B]` or `[B, T]` (-100 is left out), or float `[B, c]` class probabilities.

    Returns:
        float `[B]`; 0 for a row without a labelled token.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if labels.is_floating_point() or logits.dim() == 2:
        return F.cross_entropy(logits, labels, reduction="none")
    tokens = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=IGNORED)
    counted = (labels != IGNORED).to(logits.dtype)
    return (tokens.view_as(counted) * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp_min(1)


def as_ids(ids: Any) -> np.ndarray | None:
    """Ids of a batch as an array: a tensor, an array or a list, as loaders give them."""
    if ids is None:
        return None
    array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if array.dtype.kind != "U":
        raise BadInput(f"ids must be integers or text, not {array.dtype}")
    return array


def xy_step(model: nn.Module, batch: Batch, *, loss_fn: LossFn | None = None) -> Step:
    """Step of `(x, y)` or `(ids, x, y)`.

    Args:
        model: `model(x)` gives logits `[B, c]`, a tuple whose first entry is that, or an object with `.logits`.
        batch: x is a tensor (or a tuple, passed as positional arguments); y may be None.
        loss_fn: `(logits, y) -> [B]`; cross-entropy by default.

    Raises:
        BadInput: the loss function reduced over the batch.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise BadInput(f"xy_step needs (x, y) or (ids, x, y), not {_kind(batch)}; pass step= for other batches")
    ids, x, y = (None, *batch) if len(batch) == 2 else batch
    output = model(*x) if isinstance(x, (tuple, list)) else model(x)
    logits = output[0] if isinstance(output, (tuple, list)) else getattr(output, "logits", output)
    if y is None:
        return Step(as_ids(ids), logits, None, None)
    labels = y if isinstance(y, Tensor) else torch.as_tensor(np.asarray(y), device=logits.device)
    try:
        loss = (loss_fn or per_row_loss)(logits, labels)
    except IndexError as error:
        raise BadInput(_outside(as_ids(ids), logits, labels) or str(error)) from error
    if loss.shape[:1] != logits.shape[:1]:
        raise BadInput(f"loss_fn must give one loss per row, [{len(logits)}], not {list(loss.shape)}: reduction='none'")
    return Step(as_ids(ids), logits, labels, loss.flatten(1).mean(1) if loss.dim() > 1 else loss)


def _outside(ids: np.ndarray | None, logits: Tensor, labels: Tensor) -> str:
    """Which class numbers the outputs do not have, and in which rows; "" where that is not what is wrong."""
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or labels.is_floating_point():
        return ""
    wrong = ((labels < 0) | (labels >= logits.shape[1])).nonzero().flatten().cpu().numpy()
    rows = (wrong if ids is None else ids[wrong])[:5].tolist()
    found = labels.cpu().numpy()[wrong[:5]].tolist()
    return f"labels {found} of rows {rows} are not in 0..{logits.shape[1] - 1}, the model's outputs" if rows else ""


def transformers_step(model: nn.Module, batch: Mapping[str, Any]) -> Step:
    """Step of a dict as transformers models take it; `ids` holds row ids and is not passed on.

    A causal model's labels are shifted by one token. Without `labels`, its own unpadded input is what it predicts.

    Args:
        model: a transformers model with a head that gives `.logits`.
        batch: `input_ids`, `attention_mask`, `labels`, `pixel_values`, ...
    """
    inputs = {name: value for name, value in batch.items() if name not in ("ids", "labels")}
    config = getattr(model, "config", None)
    seq2seq = bool(getattr(config, "is_encoder_decoder", False))
    causal = not seq2seq and hasattr(model, "can_generate") and bool(model.can_generate())  # type: ignore[operator]
    labels = batch.get("labels")
    if seq2seq and labels is not None:
        inputs["labels"] = labels  # the decoder's input is made from them
    elif causal and hasattr(config, "use_cache"):
        inputs.setdefault("use_cache", False)
    output = model(**inputs)
    logits = getattr(output, "logits", None)
    if logits is None:
        return Step(as_ids(batch.get("ids")), None, None, None, _pooled(output, batch.get("attention_mask")))
    if causal:
        logits, labels = _shifted(logits, labels, batch)
    loss = None if labels is None else per_row_loss(logits, labels)
    return Step(as_ids(batch.get("ids")), logits, labels, loss)


def detection_step(model: nn.Module, batch: Batch) -> Step:
    """Step of detection lists `(images, targets)` or `(ids, images, targets)` for models that return a dict of losses.

    Such models give losses only in training mode and only summed over the batch, so each image is passed alone, with
    normalisation and dropout in evaluation mode. Modes are restored. Their anchors are drawn from torch's generator:
    `collect` seeds a fork of it. The embedding is the mean of the backbone's last feature map, where there is one.
    """
    ids, images, targets = (None, *batch) if len(batch) == 2 else batch
    features: list[Tensor] = []
    backbone = getattr(model, "backbone", None)
    handle = backbone.register_forward_hook(_keep_last(features)) if isinstance(backbone, nn.Module) else None
    try:
        with modes_kept(model):
            model.train()
            for module in model.modules():
                if isinstance(module, (BatchNorm, Dropout)):
                    module.training = False
            found: list[dict[str, Tensor]] = [model([image], [target]) for image, target in zip(images, targets)]
    finally:
        if handle is not None:
            handle.remove()
    losses = {task: torch.stack([one[task].sum() for one in found]) for task in found[0]}
    embedding = torch.cat(features) if features and len(features) == len(found) else None
    return Step(as_ids(ids), None, None, torch.stack([*losses.values()]).sum(0), embedding, losses)


def _keep_last(features: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that keeps the spatial mean of the last feature map of a backbone."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        last = list(output.values())[-1] if isinstance(output, Mapping) else output
        if isinstance(last, Tensor) and last.dim() == 4:
            features.append(last.mean((2, 3)))

    return hook


def infer_step(batch: Batch) -> StepFn:
    """The shipped adapter for a batch, by its form.

    Raises:
        BadInput: none fits; says what to write.
    """
    if isinstance(batch, Mapping):
        return transformers_step
    if isinstance(batch, Sequence) and len(batch) in (2, 3):
        images, targets = batch[-2], batch[-1]
        if isinstance(images, (list, tuple)) and isinstance(targets, (list, tuple)) and isinstance(targets[0], Mapping):
            return detection_step
        return xy_step
    raise BadInput(f"no adapter for a batch of {_kind(batch)}; pass step=f with f(model, batch) -> Step")


def token_mask(batch: Batch) -> Tensor | None:
    """`[B, T]`, True at real tokens, when the batch says so (`attention_mask`)."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


def plain(batch: Batch) -> Batch:
    """`(ids, dict)` as one dict with `ids`; other batches as they are."""
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[1], Mapping):
        return {"ids": batch[0], **batch[1]}
    return batch


def one_row(batch: Batch, row: int, rows: int) -> Batch:
    """The batch with this row only."""
    return _cut(batch, slice(row, row + 1), rows)


def first_rows(batch: Batch, count: int, rows: int) -> Batch:
    """The batch with its first `count` rows."""
    return _cut(batch, slice(0, count), rows)


def chosen_rows(batch: Batch, at: Tensor, rows: int) -> Batch:
    """The batch with the rows at positions `at`, int64 `[r]` on the CPU."""
    return _cut(batch, at, rows)


def _cut(batch: Batch, part: slice | Tensor, rows: int) -> Batch:
    """Every tensor, array or list of `rows` entries is cut. A tuple is a container, a list of `rows` entries is rows."""
    if isinstance(batch, Mapping):
        return {name: _cut(value, part, rows) for name, value in batch.items()}
    if isinstance(batch, (Tensor, np.ndarray)) and batch.shape[:1] == (rows,):
        return batch[part]
    if isinstance(batch, tuple) or (isinstance(batch, list) and len(batch) != rows):
        return type(batch)(_cut(value, part, rows) for value in batch)
    if not isinstance(batch, list):
        return batch
    return [batch[at] for at in part.tolist()] if isinstance(part, Tensor) else batch[part]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with every tensor on `device`; containers keep their kind."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, (list, tuple)) and any(isinstance(part, (Tensor, Mapping, list, tuple)) for part in batch):
        return type(batch)([to_device(part, device) for part in batch])
    return batch


def _shifted(logits: Tensor, labels: Tensor | None, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Logits of every token but the last, and the tokens that follow them."""
    if labels is None:
        if "input_ids" not in batch:
            return logits, None
        labels = torch.as_tensor(batch["input_ids"])
        if batch.get("attention_mask") is not None:
            labels = labels.masked_fill(batch["attention_mask"] == 0, IGNORED)
    return logits[:, :-1], labels[:, 1:]


def _pooled(output: Any, mask: Tensor | None) -> Tensor | None:
    """`[B, d]` of a headless encoder: its pooled output, else the mean over real tokens."""
    pooled = getattr(output, "pooler_output", None)
    hidden = getattr(output, "last_hidden_state", None)
    if pooled is not None or hidden is None:
        return pooled
    if mask is None:
        return hidden.mean(1)
    weight = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weight).sum(1) / weight.sum(1).clamp_min(1)


def _kind(batch: Batch) -> str:
    if isinstance(batch, (list, tuple)):
        return f"{type(batch).__name__}[{', '.join(type(part).__name__ for part in batch[:4])}]"
    return type(batch).__name__
