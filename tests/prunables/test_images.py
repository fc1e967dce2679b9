"""Preprocess: what happens to an image between its bytes and the model."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from prunus.core.errors import BadInput
from prunus.prunables.images import MAX_PIXELS, Preprocess, Unreadable


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, kind)
    return sink.getvalue()


NOISE = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def test_pixels_are_what_was_encoded():
    assert (Preprocess().pixels(encoded(NOISE)) == NOISE.transpose(2, 0, 1)).all()
    assert Preprocess(mode="L").pixels(encoded(NOISE)).shape == (1, 8, 12)
    assert (Preprocess().pixels(Image.fromarray(NOISE)) == NOISE.transpose(2, 0, 1)).all()


def test_crop_takes_the_centre_and_squash_everything():
    crop = Preprocess(size=4).pixels(encoded(NOISE))
    want = NOISE[:, 2:10].reshape(4, 2, 4, 2, 3).astype(float).mean((1, 3)).transpose(2, 0, 1)
    assert np.abs(crop - want).max() <= 0.51
    assert Preprocess(size=4, fit="squash").pixels(encoded(NOISE)).shape == (3, 4, 4)
    assert Preprocess(size=24).pixels(encoded(NOISE)).shape == (3, 24, 24)


def test_normalisation():
    process = Preprocess.of(normalise="imagenet")
    x = process.tensor(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    want = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(x[0, :, 0, 0], want)
    assert Preprocess.of(normalise="half", mode="L").mean == (0.5,)
    assert Preprocess.of(normalise=((0.1,), (0.2,))).std == (0.2,)


def test_every_choice_is_in_the_id():
    variants = [
        Preprocess(),
        Preprocess(size=4),
        Preprocess(size=4, fit="squash"),
        Preprocess(mode="L"),
        Preprocess.of(normalise="half"),
        Preprocess.of(normalise="imagenet"),
    ]
    assert len({process.id for process in variants}) == len(variants)


@pytest.mark.parametrize(
    "options",
    [{"normalise": "imagnet"}, {"size": 0}, {"fit": "stretch"}, {"mode": "CMYK"}, {"normalise": ((0,), (0,))},
     {"normalise": ((0, 0), (1, 1))}],
)  # fmt: skip
def test_bad_options(options):
    with pytest.raises(BadInput):
        Preprocess.of(**options)


def test_hostile_bytes_are_unreadable_not_crashes():
    whole = encoded(NOISE, "JPEG")
    huge = encoded(np.zeros((1, 1, 3), dtype=np.uint8))
    side = int(MAX_PIXELS**0.5) + 10
    width = huge.index(b"IHDR") + 4
    bomb = huge[:width] + side.to_bytes(4, "big") * 2 + huge[width + 8 :]
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    for value in (b"", b"GIF89a", whole[: len(whole) // 2], bomb, script, None, {"bytes": None, "path": "x.png"}):
        with pytest.raises(Unreadable):
            Preprocess().pixels(value)
