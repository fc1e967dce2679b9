"""What channels do where they are read, what layers spread, squared gradients row by row, and blocks left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunus.core.errors import BadInput
from prunus.signals.collect import collect
from prunus.train.models import TinyCNN, seeded


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net():
    made = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Flatten())
    return nn.Sequential(*made, nn.Linear(27, 2)).double()


def rows(count=6):
    return draw(count, 2, 10, 10), torch.arange(count) % 2


def test_off_share_rank_and_pooled_values_are_those_of_the_maps():
    model, (x, y) = net(), rows()
    maps = torch.relu(model[0](x))
    found = collect(model, (x, y), ("input_off", "input_pooled", "input_rank"), batch=4).modules["2"]
    torch.testing.assert_close(found.input_off[:, 0], (maps <= 0).double().mean((0, 2, 3)).float())
    torch.testing.assert_close(found.input_pooled, maps.mean((2, 3)).T.sort(1).values.float())
    torch.testing.assert_close(found.input_rank[:, 0], torch.linalg.matrix_rank(maps).double().mean(0).float())


def test_padding_is_no_activity_of_a_text():
    layer = nn.Linear(3, 2).double()
    x, mask = draw(2, 4, 3).abs(), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    x[0, 2:] = -1

    def step(model, batch):
        from prunus.signals.step import Step

        out = model(batch["x"])
        return Step(None, out, None, None)

    found = collect(layer, [{"x": x, "attention_mask": mask}], ("input_off", "input_pooled"), step=step).modules[""]
    assert not found.input_off.any()
    expected = torch.stack([x[0, :2].mean(0), x[1].mean(0)]).T.sort(1).values
    torch.testing.assert_close(found.input_pooled, expected.float())


def test_spread_of_groups_sees_their_own_windows():
    model, (x, y) = net(), rows()
    found = collect(model, (x, y), "output_spread", batch=4).modules
    out = model[0](x)
    windows = nn.functional.unfold(x, 3, padding=1, stride=2).reshape(6, 2, 9, 25)
    below = windows.transpose(0, 1).flatten(1, 2).std(1, unbiased=False).repeat_interleave(2, 0)
    expected = (out.std(0, unbiased=False).flatten(1) / below).sum(1)
    torch.testing.assert_close(found["0"].output_spread, expected.detach())
    features = torch.relu(model[0](x))
    y_linear, x_linear = model(x), model[3](model[2](features))
    expected = y_linear.std(0, unbiased=False) / x_linear.std(unbiased=False)
    torch.testing.assert_close(found["4"].output_spread, expected.detach())


def test_spread_needs_two_rows_of_one_size():
    model = net()[:3]
    with pytest.raises(BadInput, match="two rows"):
        collect(model, [(draw(1, 2, 10, 10), torch.zeros(1))], "output_spread", step=plain_step)
    sizes = [(draw(2, 2, side, side), torch.zeros(2)) for side in (10, 12)]
    with pytest.raises(BadInput, match="one size"):
        collect(model, sizes, "output_spread", step=plain_step)


def plain_step(model, batch):
    from prunus.signals.step import Step

    return Step(None, model(batch[-2]), None, None)


def test_squared_gradients_are_of_single_rows():
    model = seeded(TinyCNN, 0, width=4).eval()
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(5)
    found = collect(model, (x, y), "grad_square", batch=3).modules
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row in range(5):
        loss = nn.functional.cross_entropy(model(x[row : row + 1]), y[row : row + 1])
        for (name, _), grad in zip(model.named_parameters(), torch.autograd.grad(loss, list(model.parameters()))):
            expected[name] += grad.square() / 5
    for name, value in expected.items():
        torch.testing.assert_close(found.parameter(name, "grad_square"), value, rtol=1e-4, atol=1e-9)


def test_curvature_does_not_depend_on_batches():
    from contract.fixtures import Deep

    model = seeded(Deep, 0)
    x = torch.randn(12, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    data = (x, torch.arange(12) % 4)
    one, many = (collect(model, data, ("block_grasp", "block_snip"), batch=size).modules for size in (12, 5))
    for name in one:
        np.testing.assert_allclose(one[name].block_grasp, many[name].block_grasp, rtol=1e-3, atol=1e-7)
        np.testing.assert_allclose(one[name].block_snip, many[name].block_snip, rtol=1e-4)
