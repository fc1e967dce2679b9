"""DeepFool's way and the variance of gradients: against their definitions, one row at a time, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prunus.core.errors import BadInput, NonFinite
from prunus.flow.signals import Fit
from prunus.prunables.dataset import Dataset
from prunus.signals.collect import collect
from prunus.train.models import mlp, seeded


def net(seed=0, classes=4):
    return seeded(mlp, seed, 6, 16, classes).eval()


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(11, 6, generator=generator), torch.randint(0, 4, (11,), generator=generator)


def way_of_one(model, x, iterations=50, beyond=0.02):
    """DeepFool of one row, as published: all classes, one at a time."""
    way = torch.zeros_like(x)
    own = int(model(x[None]).argmax())
    for _ in range(iterations):
        at = (x + (1 + beyond) * way).requires_grad_()
        logits = model(at[None])[0]
        if int(logits.argmax()) != own:
            break
        slopes = [torch.autograd.grad(logits[k], at, retain_graph=True)[0] for k in range(len(logits))]
        leads = {k: float((logits[own] - logits[k]).detach()) for k in range(len(logits)) if k != own}
        nearest = min(leads, key=lambda k: leads[k] / float((slopes[k] - slopes[own]).norm()))
        slope = slopes[nearest] - slopes[own]
        way = way + leads[nearest] / float(slope.square().sum()) * slope
    return float(way.norm())


def test_a_linear_model_is_left_in_one_step(rows):
    model = nn.Linear(6, 3)
    x, _ = rows
    found = collect(model, (x, None), "boundary_distance", deepfool_iterations=1).rows.boundary_distance
    logits, weight = model(x).detach(), model.weight.detach()
    own = logits.argmax(1)
    for row in range(len(x)):
        away = [
            float((logits[row, own[row]] - logits[row, k]) / (weight[own[row]] - weight[k]).norm())
            for k in range(3)
            if k != own[row]
        ]
        assert found[row] == pytest.approx(min(away), rel=1e-4)


@pytest.mark.parametrize("batch", [3, 64])
def test_rows_move_together_as_each_moves_alone(rows, batch):
    x, y = rows
    found = collect(net(), (x, y), "boundary_distance", batch=batch).rows.boundary_distance
    torch.testing.assert_close(found, torch.tensor([way_of_one(net(), row) for row in x]), rtol=1e-4, atol=1e-5)


def test_fewer_rivals_find_no_shorter_way(rows):
    x, _ = rows
    model = net(classes=9)
    all_of_them = collect(model, (x, None), "boundary_distance", deepfool_iterations=1).rows.boundary_distance
    nearest = collect(model, (x, None), "boundary_distance", deepfool_iterations=1, deepfool_classes=3).rows
    assert (nearest.boundary_distance >= all_of_them * (1 - 1e-5)).all()


def test_dicts_and_rows_on_a_boundary():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)
            self.layer.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])

        def forward(self, pixel_values):
            from types import SimpleNamespace

            return SimpleNamespace(logits=self.layer(pixel_values))

    batch = {"ids": ["on", "off"], "pixel_values": torch.tensor([[0.0, 1.0], [3.0, 1.0]])}
    found = collect(Reader(), [batch], "boundary_distance").rows
    assert found.boundary_distance.tolist() == [0.0, pytest.approx(3.0)]


def test_what_deepfool_refuses(rows):
    x, _ = rows
    flat = nn.Linear(6, 3)
    nn.init.zeros_(flat.weight)
    with pytest.raises(BadInput, match=r"rows \[0, 1, 2, 3, 4\] do not change with their input"):
        collect(flat, (x, None), "boundary_distance")
    with pytest.raises(BadInput, match="token ids ask for grad_norm"):
        collect(nn.Embedding(9, 3), (torch.randint(0, 9, (4, 2)), None), "boundary_distance")
    with pytest.raises(BadInput, match="2 classes or more"):
        collect(nn.Linear(6, 1), (x, None), "boundary_distance")
    with pytest.raises(BadInput, match="not 0 and 10"):
        collect(net(), (x, None), "boundary_distance", deepfool_iterations=0)
    x[2, 1] = float("nan")
    with pytest.raises(NonFinite, match=r"rows \[2\] are not finite"):
        collect(net(), (x, None), "boundary_distance")


def maps(models, x, y):
    """Gradient of the label's logit at every model, `[K, n, ...]`, one row at a time."""
    found = []
    for model in models:
        for row, label in zip(x, y):
            at = row.clone().requires_grad_()
            found.append(torch.autograd.grad(model(at[None])[0, label], at)[0])
    return torch.stack(found).view(len(models), *x.shape).double()


def test_variance_over_checkpoints_is_that_of_the_maps(rows, tmp_path):
    x, y = rows
    models = [net(seed) for seed in (1, 2, 0)]
    save_file(models[1].state_dict(), tmp_path / "second.safetensors")
    states = [models[0].state_dict(), tmp_path / "second.safetensors"]
    names = ("gradient_variance", "gradient_std")
    found = collect(models[2], (x, y), names, checkpoints=states, batch=4).rows
    spread = maps(models, x, y).var(0, correction=0)
    torch.testing.assert_close(found.gradient_variance.double(), spread.mean(1), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(found.gradient_std.double(), spread.sqrt().mean(1), rtol=1e-4, atol=1e-8)


def test_channels_of_images_are_averaged_and_buffers_belong_to_a_checkpoint():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.norm(self.conv(x)).flatten(1))

    first, last = Normed().eval(), Normed().eval()
    first.load_state_dict(last.state_dict())
    first.norm.running_var.mul_(4)  # all that differs: saliency is half as large
    x, y = torch.randn(5, 3, 4, 4), torch.arange(5) % 3
    found = collect(last, (x, y), "gradient_variance", checkpoints=[first.state_dict()]).rows
    spread = maps([first, last], x, y).mean(2).var(0, correction=0)
    assert (found.gradient_variance > 0).all()
    torch.testing.assert_close(found.gradient_variance.double(), spread.mean((1, 2)), rtol=1e-4, atol=1e-9)


def test_what_the_variance_refuses(rows):
    x, y = rows
    with pytest.raises(BadInput, match="checkpoints="):
        collect(net(), (x, y), "gradient_variance")
    with pytest.raises(BadInput, match="does not fit the model at"):
        collect(net(), (x, y), "gradient_variance", checkpoints=[net(classes=5).state_dict()])
    with pytest.raises(BadInput, match="unlabelled rows can be scored with deepfool"):
        collect(net(), (x, None), "gradient_variance", checkpoints=[net(1).state_dict()])
    with pytest.raises(BadInput, match="unknown|no options"):
        collect(net(), (x, y), "gradient_variance", checkpoint=[net(1).state_dict()])


def test_a_training_run_keeps_its_checkpoints(rows):
    x, y = rows
    data = Dataset((x.numpy(), y.numpy()))
    made = Fit(lambda: net(), steps=12, settings={"batch": 4, "progress": False}, checkpoints=3)
    found = made.run(data, ("gradient_variance", "gradient_std", "aum"))[0]
    assert (found.gradient_variance > 0).all() and "aum" in found.names
    with pytest.raises(BadInput, match="2 steps hold no 3 checkpoints"):
        Fit(lambda: net(), steps=2, settings={"batch": 4}, checkpoints=3).run(data, ("gradient_variance",))
    with pytest.raises(BadInput, match="2 or more, not 1"):
        Fit(lambda: net(), steps=2, settings={"batch": 4}, checkpoints=1).run(data, ("gradient_variance",))
