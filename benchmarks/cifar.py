"""Images of cifar10-jpeg300 as tensors, for the scripts beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunus.sources.models import open_model
from prunus.sources.open import open_data

DATA = Path(os.environ.get("PRUNUS_DATA", "../shared/data"))


def images(role: str, size: int | None = None, limit: int | None = None) -> tuple[Tensor, np.ndarray]:
    """(x `[n, 3, s, s]` normalised, labels `[n]`) of the first rows of a role, train or test."""
    path = DATA / f"cifar10/{role}.parquet"
    data = open_data(str(path), image="img", label="label", size=size, normalise="imagenet", limit=limit)
    batches = list(data.batches(1000))
    return torch.cat([x for _, x, _ in batches]), np.concatenate([np.asarray(y) for _, _, y in batches])


def resnet20() -> torch.nn.Module:
    """The network that was trained on all training images, labels and all."""
    return open_model("prunus:resnet20", weights=str(DATA / "weights/cifar10-resnet20.safetensors"))
