"""Masks live in one place, cost no memory over many rounds, and leave nothing on the model."""

from __future__ import annotations

import copy
import gc

import pytest
import torch

from prunus.core.errors import BadInput, UnknownName
from prunus.train.loop import fit
from prunus.train.masks import Masks
from prunus.train.models import mlp, seeded


def live_numbers() -> int:
    gc.collect()
    return sum(o.numel() for o in gc.get_objects() if issubclass(type(o), torch.Tensor))


def test_ten_prune_and_rewind_rounds_keep_memory_flat():
    x, y = torch.randn(64, 20), torch.randint(0, 3, (64,))
    model = seeded(mlp, 0, 20, 200, 3)
    start = copy.deepcopy(model.state_dict())
    masks = Masks(model, {"1.weight": torch.ones(200, 20, dtype=torch.bool)})
    sizes = []
    for _ in range(10):
        fit(model, (x, y), epochs=1, batch=32, masks=masks)
        weight = model[1].weight.detach().abs()
        alive = weight[masks.named["1.weight"]]
        masks.update({"1.weight": weight > alive.quantile(0.2)})
        model.load_state_dict(start)
        masks.apply()
        model.zero_grad()
        sizes.append(live_numbers())
    assert max(sizes[2:]) <= sizes[1]
    assert 0.05 < masks.density() < 0.15
    assert not any(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    assert model.state_dict().keys() == start.keys()
    copy.deepcopy(model)


def test_moments_are_masked_too():
    model = seeded(mlp, 0, 4, 3)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    mask = torch.tensor([[True, False, True, False]] * 3)
    masks = Masks(model, {"1.weight": mask}).attach(optimizer)
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    state = optimizer.state[model[1].weight]
    for value in (model[1].weight, state["exp_avg"], state["exp_avg_sq"]):
        assert (value[~mask] == 0).all()
    masks.detach()
    optimizer.step()
    masks.attach(torch.optim.SGD(model.parameters(), 0.1)).detach()
    assert not optimizer._optimizer_step_post_hooks


def test_a_nan_behind_a_mask_is_gone():
    model = seeded(mlp, 0, 2, 2)
    model[1].weight.data[0, 0] = float("nan")
    Masks(model, {"1.weight": torch.tensor([[False, True], [True, True]])})
    assert torch.isfinite(model[1].weight).all()
    assert not torch.signbit(model[1].weight[0, 0])


def test_wrong_masks_are_refused():
    model = seeded(mlp, 0, 4, 3)
    with pytest.raises(UnknownName, match=r"1\.weight"):
        Masks(model, {"1.weigth": torch.ones(3, 4, dtype=torch.bool)})
    with pytest.raises(BadInput, match=r"\[3, 4\]"):
        Masks(model, {"1.weight": torch.ones(4, 3, dtype=torch.bool)})
    with pytest.raises(BadInput, match="bool"):
        Masks(model, {"1.weight": torch.ones(3, 4)})


def test_masks_of_a_parameter_that_is_gone_are_refused():
    model = seeded(mlp, 0, 4, 3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    masks = Masks(model, {"1.weight": torch.ones(3, 4, dtype=torch.bool)}).attach(optimizer)
    model(torch.randn(5, 4)).sum().backward()
    model[1] = torch.nn.Linear(4, 3)  # looks the same, but the optimizer trains the one that went
    with pytest.raises(BadInput, match=r"1\.weight \[3, 4\].*no longer in"):
        optimizer.step()
    model[1] = torch.nn.Linear(4, 2)
    with pytest.raises(BadInput, match="Make Masks of the new model"):
        masks.attach(optimizer)
