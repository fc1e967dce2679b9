"""Images packed several to one: which ones together, under which id, and what can't be packed."""

from __future__ import annotations

import numpy as np
import pytest

import prunus as px
from prunus.core.errors import BadInput, IdMismatch


def rows(count: int = 12, dtype: type = np.float32) -> px.Dataset:
    x = (np.arange(count * 16).reshape(count, 1, 4, 4) % 251).astype(dtype)
    return px.Dataset((x, np.arange(count) % 2), ids=np.arange(count) * 10)


def scored(data: px.Dataset, values: np.ndarray, sense: str = "hard") -> px.Score:
    return px.Score("rows", {"rows": values}, sense, {"rows": data.ids})


def test_classes_are_packed_apart_from_the_easiest_on():
    data = rows(16)
    values = np.random.RandomState(0).permutation(16).astype(np.float32)
    packed = px.combine(data, score=scored(data, values))
    assert len(packed) == 4 and packed.labels.tolist() == [0, 0, 1, 1]
    for number, id_ in enumerate(packed.ids.tolist()):
        mine = np.flatnonzero(data.labels == packed.labels[number])
        ranked = mine[np.argsort(values[mine])][4 * (number % 2) : 4 * (number % 2) + 4]
        assert id_ == data.ids[ranked[0]]
        sources = data.unwrapped()[0][ranked]
        np.testing.assert_allclose(packed.unwrapped()[0][number].mean(), sources.mean(), rtol=1e-6)
    upside_down = px.combine(data, score=scored(data, values, "keep"))
    assert upside_down.ids[0] == data.ids[np.flatnonzero(data.labels == 0)[np.argmax(values[data.labels == 0])]]


def test_a_class_that_fills_no_whole_image_repeats_its_first_rows():
    packed = px.combine(rows(10), score=scored(rows(10), np.arange(10, dtype=np.float32)))
    assert packed.labels.tolist() == [0, 0, 1, 1]  # five rows each
    last = packed.unwrapped()[0][1, 0]
    np.testing.assert_allclose(last[:2, :2], rows().unwrapped()[0][8, 0].reshape(2, 2, 2, 2).mean((1, 3)))
    np.testing.assert_allclose(last[:2, 2:], rows().unwrapped()[0][0, 0].reshape(2, 2, 2, 2).mean((1, 3)))


def test_it_does_not_depend_on_the_order_of_the_rows():
    data = rows(16)
    moved = data.select(np.random.RandomState(1).permutation(16))
    first, second = px.combine(data), px.combine(moved)
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.unwrapped()[0], second.unwrapped()[0])


def test_pixels_stay_pixels_and_weights_are_averaged(tmp_path):
    data = rows(16, np.uint8)
    data.loss_weights = np.arange(16, dtype=np.float32)
    packed = px.combine(data, score=scored(data, np.arange(16, dtype=np.float32)))
    assert packed.unwrapped()[0].dtype == np.uint8
    assert packed.loss_weights.tolist() == [3.0, 11.0, 4.0, 12.0]  # 0, 2, 4, 6; 8, 10, ...
    assert packed.role == "fit" and packed.name == data.name


def test_image_files_are_decoded_once_and_stay_normalised(tmp_path):
    from PIL import Image

    for number in range(8):
        place = tmp_path / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number, 0, 255)).save(place / f"{number}.png")
    data = px.open_data(str(tmp_path), size=4, normalise="half")
    packed = px.combine(data)
    assert packed.classes == ("a", "b") and packed.unwrapped()[0].shape == (2, 3, 4, 4)
    _, x, _ = next(packed.batches(2))
    assert float(x[:, 2].min()) == 1.0  # blue 255, normalised by (0.5, 0.5)


def test_what_can_not_be_packed_is_refused():
    data = rows()
    with pytest.raises(BadInput, match="no class labels"):
        px.combine(np.zeros((4, 1, 4, 4), np.float32))
    with pytest.raises(BadInput, match=r"\[12, 3\]"):
        px.combine((np.zeros((12, 3), np.float32), np.zeros(12, int)))
    with pytest.raises(BadInput, match="factor must be 1 to 4"):
        px.combine(data, factor=5)
    with pytest.raises(IdMismatch, match="the score"):
        px.combine(data, score=scored(rows(8), np.ones(8, np.float32)))
