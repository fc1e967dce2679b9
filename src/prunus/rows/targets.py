"""Labels as criteria read them: class numbers `[n]`, one-hot or soft rows `[n, c]`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prunus.core.errors import BadInput


def soft(labels: Tensor, probs: Tensor) -> Tensor:
    """Target probabilities `[n, c]` in the dtype of `probs`, from class numbers or from rows of probabilities."""
    if labels.dim() == 2:
        if labels.shape != probs.shape:
            raise BadInput(f"labels of shape {list(labels.shape)} do not fit probs of shape {list(probs.shape)}")
        return labels.to(probs.dtype)
    return torch.nn.functional.one_hot(classes(labels, probs), probs.shape[-1]).to(probs.dtype)


def classes(labels: Tensor, probs: Tensor) -> Tensor:
    """Class numbers int64 `[n]`, checked against `probs [n, c]`; one-hot rows are read, soft ones refused."""
    if labels.dim() == 2:
        hard = ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()
        if not hard:
            raise BadInput("this criterion needs one class for each row; the labels are soft: use el2n")
        labels = labels.argmax(1)
    if labels.shape != probs.shape[:1]:
        raise BadInput(f"{labels.shape[0]} labels for {probs.shape[0]} rows of probabilities")
    labels = labels.long()
    wrong = (labels < 0) | (labels >= probs.shape[-1])
    if wrong.any():
        raise BadInput(f"labels {labels[wrong][:5].tolist()} are not in 0..{probs.shape[-1] - 1}")
    return labels


def real(values: Tensor) -> Tensor:
    """float32 at least: half-precision logs are widened before arithmetic."""
    return values if values.dtype == torch.float64 else values.float()


def margin_to_rival(probs: Tensor, labels: Tensor) -> Tensor:
    """Probability of the label minus that of the best other class, `[n]` in [-1, 1]; large = easy.

    Args:
        probs: `[n, c]`, at least two classes.
        labels: class numbers `[n]` or one-hot `[n, c]`.
    """
    probs = real(probs)
    if probs.shape[-1] < 2:
        raise BadInput("a margin needs at least two classes")
    own = classes(labels, probs)[:, None]
    rival = probs.scatter(1, own, float("-inf")).amax(1)
    return probs.gather(1, own).squeeze(1) - rival


def with_windows(values: Tensor, windows: Tensor, ids: Any) -> Tensor:
    """The values, unless a row had no whole window of presentations: then it was never measured.

    Args:
        values: `[n]`.
        windows: whole windows of each row, int `[n]`.
        ids: of the rows, `[n]`, to name them.
    """
    none = (windows <= 0).nonzero().flatten()
    if none.numel():
        named = ", ".join(str(ids[int(at)]) for at in none[:5])
        raise BadInput(
            f"{none.numel()} rows were presented fewer times than a window is long (ids {named}): train for more epochs, "
            "or record with a smaller window= (Recorder, Fit(recorder={'window': 5}))"
        )
    return values
