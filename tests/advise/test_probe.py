"""The cheap look at rows: counts, copies, wrong labels, and when their number is not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prunus.advise.probe import look
from prunus.advise.wrong_labels import wrong_labels
from prunus.core.errors import BadInput, BudgetUnreachable, SplitError
from prunus.core.rng import Rng
from prunus.prunables.dataset import Dataset
from prunus.prunables.label_noise import symmetric
from prunus.signals.rowset import Signals

RNG = Rng(0, "test")


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.data / 16).astype(np.float32), found.target.astype(np.int64)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_wrong_labels_are_counted_to_a_few_points(digits, share):
    x, y = digits
    ids = np.arange(y.size)
    noisy = symmetric(y, ids, share, RNG) if share else y
    found = wrong_labels(x, noisy, ids)
    assert found.share == pytest.approx((noisy != y).mean(), abs=0.03)
    assert found.at_most >= found.share


def test_on_features_that_cannot_tell_classes_apart_the_number_is_not_known(digits):
    x, y = digits
    weak = x @ np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    found = wrong_labels(weak, y, np.arange(y.size))
    assert found.share is None and found.agreement > 1.2 and found.at_most > 0.3


def test_the_order_of_the_rows_does_not_matter(digits):
    x, y = digits
    ids, turned = np.arange(y.size), np.random.default_rng(1).permutation(y.size)
    assert wrong_labels(x[turned], y[turned], ids[turned]) == wrong_labels(x, y, ids)


def test_one_class_or_few_rows_have_no_estimate(digits):
    x, y = digits
    assert wrong_labels(x[:50], np.zeros(50, np.int64), np.arange(50)) is None
    assert wrong_labels(x[:5], y[:5], np.arange(5)) is None


def test_a_situation(digits):
    x, y = digits
    rows = Dataset(
        (np.concatenate([x[:300], x[:60]]).reshape(-1, 1, 8, 8), np.concatenate([y[:300], y[:60]])), name="mine"
    )
    found = look(rows, "25% rows", have=("aum",))
    assert (found.name, found.rows, found.kept, found.classes) == ("mine", 360, 90, 10)
    assert found.copies == pytest.approx(60 / 360)
    assert found.per_class == 9.0 and found.share == 0.25
    assert found.noise == pytest.approx(0.0, abs=0.03) and not found.noise_given
    assert found.have == {"aum"}


def test_signals_at_hand_are_named_and_their_embedding_is_looked_at(digits):
    x, y = digits
    blind = np.zeros((200, 1), np.float32)
    rows = Dataset((blind, y[:200]))
    assert look(rows, "50% rows").noise is None
    seen = look(rows, "50% rows", signals=Signals(ids=rows.ids, embedding=x[:200]))
    assert seen.noise == pytest.approx(0.0, abs=0.05) and seen.have == {"embedding"}
    told = look(rows, "50% rows", noise=0.4)
    assert (told.noise, told.noise_given) == (0.4, True)


def test_labels_that_a_torch_dataset_does_not_carry_are_read(digits):
    x, y = digits
    rows = torch.utils.data.TensorDataset(torch.from_numpy(x[:200]), torch.from_numpy(y[:200]))
    found = look(Dataset(rows), "50% rows")
    assert found.classes == 10 and found.inputs == (64,)


def test_columns_of_numbers_are_compared_and_text_is_not(digits):
    x, y = digits
    columns = {f"c{place}": values for place, values in enumerate(x[:300].T)}
    found = look(Dataset(columns | {"y": y[:300]}, label="y"), "33% rows")
    assert (found.inputs, found.classes, found.budget) == ((64,), 10, "33% rows")
    assert found.noise == pytest.approx(0.0, abs=0.05)
    words = look(Dataset({"text": ["a b"] * 40, "y": y[:40]}, label="y"), "7 rows")
    assert (words.inputs, words.noise, words.noise_at_most, words.budget) == ((), None, None, "17.5% rows")


def test_rows_without_classes(digits):
    x, y = digits
    for rows in (Dataset(x[:80]), Dataset((x[:80], y[:80].astype(np.float32) + 0.5))):
        found = look(rows, "10 rows")
        assert (found.classes, found.imbalance, found.noise, found.per_class) == (0, None, None, 10)


def test_refusals(digits):
    x, y = digits
    rows = Dataset((x[:40], y[:40]))
    with pytest.raises(BadInput, match="30% rows"):
        look(rows, "50% macs")
    with pytest.raises(BudgetUnreachable):
        look(rows, "41 rows")
    with pytest.raises(BadInput, match="noise"):
        look(rows, "50% rows", noise=20)
    with pytest.raises(SplitError):
        look(Dataset((x[:40], y[:40]), role="test"), "50% rows")


def test_one_call_from_python(digits):
    import prunus as px

    x, y = digits
    found = px.advice(
        (x[:400], y[:400]), "25% rows", method="el2n_sum", select="top", options={"keep": "hardest"}, noise=0.2
    )
    assert (
        found.situation.kept == 100
        and found.situation.noise == 0.2
        and found.answer.startswith("el2n_sum + top(keep=hardest)")
    )
    assert "keeps 25 %, 100 rows" in str(found)
