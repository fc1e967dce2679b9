"""Small models and rows for the tests of signals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunus.train import models


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(13, 3, 8, 8, generator=generator), torch.randint(0, 10, (13,), generator=generator)


@pytest.fixture
def net():
    """A ResNet-8 whose BatchNorm statistics are not the initial ones."""
    model = models.seeded(models.CifarResNet, 0, 8, 8)
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model


@pytest.fixture
def vit():
    return models.seeded(models.TinyViT, 0, 8, 2, 3, 16, 2, 2)
