"""Adapters of masked matrices in every storage: their start, their merge, what they refuse."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import nn

from prunus.core.errors import BadInput, UnknownName
from prunus.train.adapters import Kind, attach, merge


class Stored(nn.Module):
    """GPT-2's linear layer: the weight is `[inputs, outputs]`."""

    def __init__(self) -> None:
        super().__init__()
        self.nf = 5
        self.weight, self.bias = nn.Parameter(torch.randn(6, 5)), nn.Parameter(torch.zeros(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


def layer(which: str) -> tuple[nn.Module, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = {"linear": lambda: nn.Linear(6, 5), "conv": lambda: nn.Conv2d(3, 5, 3), "stored": Stored}[which]()
        x = torch.randn(4, 3, 5, 5) if which == "conv" else torch.randn(4, 6)
    return made, x


def attached(module: nn.Module, kind: Any, mask: torch.Tensor, **options: Any) -> Any:
    given = {"rank": 2, "scale": 2.0, "stored": isinstance(module, Stored), **options}
    return attach(module, kind, mask, generator=torch.Generator().manual_seed(1), **given)


@pytest.mark.parametrize("which", ["linear", "conv", "stored"])
@pytest.mark.parametrize("kind", list(get_args(Kind)))
def test_trained_and_merged(which, kind):
    module, x = layer(which)
    mask = torch.rand(module.weight.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    with torch.no_grad():
        module.weight.mul_(mask)
    before, names, plain = module(x), list(module.state_dict()), type(module)
    weight, parameter = module.weight.detach().clone(), module.weight
    adapter = attached(module, kind, mask)
    torch.testing.assert_close(module(x), before)
    parameter.requires_grad_(False)
    optimizer = torch.optim.SGD([adapter.a, adapter.b], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(x).square().sum().backward()
        optimizer.step()
    trained = module(x)
    assert not torch.allclose(trained, before, atol=1e-3)
    merge(module, ("weight", "bias"))
    assert type(module) is plain and list(module.state_dict()) == names and module.weight is parameter
    if kind not in ("lora", "kept_path"):
        assert not module.weight[~mask].any()
    assert torch.allclose(module(x), trained, atol=1e-5) == (kind != "lora_prune")
    assert not torch.equal(module.weight, weight)
    copy.deepcopy(module)(x).sum().backward()


def test_bad_numbers_are_refused():
    module, _ = layer("linear")
    with pytest.raises(BadInput, match="rank"):
        attached(module, "lora", module.weight != 0, rank=0)
    with pytest.raises(BadInput, match="mask"):
        attached(module, "lora", torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(UnknownName, match="mask_lora"):
        attached(module, "mask_lor", module.weight != 0)
