"""Spatial attention of feature maps, and how far a student's is from its teacher's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from prunus.core.errors import BadInput

TINY = 1e-12


def attention(maps: Tensor, power: float = 2.0) -> Tensor:
    """Where a feature map is large: the mean over channels of |F| ** power, with L2 norm 1 over positions.

    Args:
        maps: `[B, C, H, W]`.
        power: of each activation.

    Returns:
        `[B, H, W]`, the same for a map times any constant, and whatever the order of channels.
    """
    if maps.dim() != 4:
        raise BadInput(f"attention is over feature maps [B, C, H, W], not {list(maps.shape)}")
    found = maps.abs().pow(power).mean(1)
    return found / (found.flatten(1).norm(dim=1)[:, None, None] + TINY)


def attention_gap(student: Tensor, teacher: Tensor, power: float = 2.0) -> Tensor:
    """Squared distance of the two attentions.

    Args:
        student: `[B, C1, H, W]`.
        teacher: `[B, C2, h, w]`, resized bilinearly to the student's size where it differs.
        power: of each activation.

    Returns:
        `[B]`, between 0 and 2.
    """
    if student.shape[2:] != teacher.shape[2:]:
        teacher = F.interpolate(teacher, student.shape[2:], mode="bilinear", align_corners=False)
    return (attention(student, power) - attention(teacher, power)).square().sum((1, 2))


def gaps(students: list[Tensor], teachers: list[Tensor], power: float) -> Tensor:
    """`attention_gap` of one layer over the calls of a batch (detectors are called image by image), `[B]`."""
    return torch.cat([attention_gap(s, t, power) for s, t in zip(students, teachers, strict=True)])
