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


def tensors(role: str, rows: int) -> tuple[Tensor, Tensor]:
    """The first images of a role as they are, 32 pixels wide, and their labels."""
    x, labels = images(role, limit=rows)
    return x, torch.from_numpy(labels)


def resnet(depth: int = 20) -> torch.nn.Module:
    """The network of 20 or 56 layers that was trained on all training images, labels and all; in evaluation mode."""
    return open_model(f"prunus:resnet{depth}", weights=str(DATA / f"weights/cifar10-resnet{depth}.safetensors")).eval()


def correct(net: torch.nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """bool for each image."""
    with torch.inference_mode():
        return np.concatenate([(net(a).argmax(1) == b).numpy() for a, b in zip(x.split(250), y.split(250))])
