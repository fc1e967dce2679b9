"""The distillation term: T^2 KL(softmax(teacher / T) || softmax(student / T)), one number for each row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The term of each row, natural log, already times T^2.

    Args:
        student, teacher: logits `[B, c]` or `[B, T, c]` (then the mean over T).
        temperature: T.

    Returns:
        `[B]`, float32 or wider. The log-softmax form stays finite for logits of 1e4; a sum over classes, because
        a mean over them makes the term c times too small.
    """
    wide = torch.promote_types(student.dtype, torch.float32)
    p = F.log_softmax(teacher.to(wide) / temperature, -1)
    q = F.log_softmax(student.to(wide) / temperature, -1)
    found = F.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    return temperature**2 * (found.flatten(1).mean(1) if found.dim() > 1 else found)


def mixed(own: Tensor | None, student: Tensor, teacher: Tensor, *, alpha: float, temperature: float) -> Tensor:
    """(1 - alpha) own loss + alpha T^2 KL for each row; the second term alone where there is no own loss.

    Args:
        own: `[B]`, the task's loss, or None without labels.
        student, teacher: logits of one shape.
        alpha: weight of the teacher, in [0, 1].
        temperature: T.
    """
    soft = divergence(student, teacher, temperature)
    return soft if own is None else (1 - alpha) * own + alpha * soft


def hidden_gap(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Squared gap of hidden states relative to the teacher's mean square, summed over layers (Kurtic et al. 2023, SquareHead).

    Args:
        student, teacher: `[B, ...]` of each layer.

    Returns:
        `[B]`: rows share the denominator, so that their mean is the gap of the batch.
    """
    gaps = [
        (ours - theirs).square().flatten(1).mean(1) / (theirs.square().mean() + torch.finfo(torch.bfloat16).eps)
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(gaps).sum(0)
