"""Reference networks: sizes, names, seeds, and the weights that come with the data."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import torch

from prunus.train.models import CifarResNet, TinyCNN, TinyViT, mlp, resnet8, seeded

DATA = Path(os.environ.get("PRUNUS_DATA") or Path(__file__).parents[3] / "shared" / "data")


def test_sizes_are_those_of_the_protocol():
    count = lambda model: sum(parameter.numel() for parameter in model.parameters())  # noqa: E731
    assert count(CifarResNet(20)) == 269_722
    assert count(CifarResNet(56)) == 853_018
    assert count(resnet8()) == 75_290
    assert count(CifarResNet(20, 8)) == 68_050
    with pytest.raises(ValueError, match="21"):
        CifarResNet(21)


@pytest.mark.parametrize(
    ("factory", "sizes", "shape"),
    [
        (CifarResNet, (8, 4), (3, 16, 16)),
        (TinyCNN, (), (1, 8, 8)),
        (TinyViT, (), (3, 16, 16)),
        (mlp, (64, 12, 10), (1, 8, 8)),
    ],
)
def test_forward_and_seed(factory, sizes, shape):
    state = torch.get_rng_state()
    one, two, other = seeded(factory, 3, *sizes), seeded(factory, 3, *sizes), seeded(factory, 4, *sizes)
    assert torch.equal(state, torch.get_rng_state())
    x = torch.randn(2, *shape)
    assert one.eval()(x).shape == (2, 10)
    assert torch.equal(one(x), two.eval()(x))
    assert not torch.equal(one(x), other.eval()(x))


@pytest.mark.data
@pytest.mark.parametrize(("depth", "least"), [(20, 0.865), (56, 0.88)])
def test_released_weights_classify(depth, least):
    import numpy as np
    import pyarrow.parquet as parquet
    from PIL import Image
    from safetensors.torch import load_file

    path = DATA / "weights" / f"cifar10-resnet{depth}.safetensors"
    if not path.exists():
        pytest.skip("PRUNUS_DATA has no weights")
    model = CifarResNet(depth)
    model.load_state_dict(load_file(str(path)))
    table = parquet.read_table(DATA / "cifar10" / "test.parquet").slice(0, 1000).to_pydict()
    images = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"])).convert("RGB")) for cell in table["img"]])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
    model = model.eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        right = torch.cat([model(part).argmax(1) for part in x.split(250)]) == torch.tensor(table["label"])
    assert right.float().mean() > least
