"""Stability: tiles are moved whole, the cosine is that of two passes, other signals don't notice, refusals."""

from __future__ import annotations

import pytest
import torch

from prunus.core.errors import BadInput
from prunus.signals.collect import collect
from prunus.signals.stability import shuffled_tiles
from prunus.train.models import CifarResNet, TinyCNN, mlp, seeded


def images(count=10, side=16, channels=3):
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def test_tiles_are_moved_whole_and_a_border_stays():
    x = torch.arange(2 * 18 * 17, dtype=torch.float32).view(2, 1, 18, 17)
    moved = shuffled_tiles(x)
    assert not torch.equal(moved, x)
    torch.testing.assert_close(moved[..., 16:, :], x[..., 16:, :])
    torch.testing.assert_close(moved[..., 16:], x[..., 16:])
    tiles = {tuple(part.flatten().tolist()) for row in moved[:, :, :16, :16].split(4, -2) for part in row.split(4, -1)}
    assert tiles == {
        tuple(part.flatten().tolist()) for row in x[:, :, :16, :16].split(4, -2) for part in row.split(4, -1)
    }


def test_it_is_the_cosine_of_two_passes():
    x, model = images(), seeded(CifarResNet, 0, depth=8).eval()
    found = collect(model, (x, torch.zeros(10, dtype=torch.long)), ("stability", "embedding"), batch=4).rows
    again = collect(model, (shuffled_tiles(x), torch.zeros(10, dtype=torch.long)), "embedding").rows
    expected = torch.nn.functional.cosine_similarity(found.embedding, again.embedding)
    torch.testing.assert_close(found.stability, expected, rtol=1e-5, atol=1e-6)
    assert found.stability.std() > 1e-4


def test_constant_images_do_not_change():
    x = torch.ones(3, 1, 8, 8) * torch.tensor([0.2, 1.0, 3.0]).view(3, 1, 1, 1)
    found = collect(seeded(TinyCNN, 0), (x, torch.zeros(3, dtype=torch.long)), "stability").rows
    torch.testing.assert_close(found.stability, torch.ones(3))


def test_signals_measured_beside_it_do_not_see_the_second_pass():
    data = (images(), torch.zeros(10, dtype=torch.long))
    need = ("embedding", "grad_norm", "probs")
    alone = collect(seeded(CifarResNet, 0, depth=8), data, need).rows
    beside = collect(seeded(CifarResNet, 0, depth=8), data, (*need, "stability")).rows
    modules = [
        collect(seeded(CifarResNet, 0, depth=8), data, names).modules
        for names in ("input_mean", ("input_mean", "stability"))
    ]
    assert all(torch.equal(alone.field(name), beside.field(name)) for name in need)
    for name, stats in modules[0].items():
        assert torch.equal(stats.fields["input_mean"], modules[1][name].fields["input_mean"])


def test_rows_that_are_no_images_are_refused():
    with pytest.raises(BadInput, match=r"images \[B, C, h, w\]"):
        collect(seeded(mlp, 0, 4, 3), (torch.ones(5, 4), torch.zeros(5, dtype=torch.long)), "stability")
