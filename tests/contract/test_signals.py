"""Contract of signals: whatever a pass of 64 rows can measure, and whatever a training run records."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contract import fixtures
from contract.checks import threads, untouched
from prunus.core.errors import BadInput, NonFinite, SplitError
from prunus.flow.signals import Fit
from prunus.signals.catalogue import providers
from prunus.signals.collect import collect
from prunus.signals.modules import ModuleSignals
from prunus.signals.recorder import Recorder
from prunus.signals.rowset import Signals

KNOWN = providers()
PASSED = [name for name, found in KNOWN.items() if found.level in ("rows", "modules")]
RECORDED = [name for name, found in KNOWN.items() if found.level == "training"]
ROWS, MODULES = ([name for name in PASSED if KNOWN[name].level == level] for level in ("rows", "modules"))


def fields(need, model=None, **settings) -> dict[str, torch.Tensor]:
    """The signal of every row in the order of ids, or of every module."""
    options = {"checkpoints": fixtures.checkpoints()} if need.startswith("gradient_") else {}
    made = collect(model or fixtures.vit(), settings.pop("data", fixtures.dataset()), need, **options, **settings)
    if made.rows is not None and need in ROWS:
        return {need: made.rows.align(np.sort(fixtures.arrays()[0])).field(need)}
    return {f"{name}.{key}": value for name, stats in made.modules.items() for key, value in stats.fields.items()}


def test_every_level_is_covered():
    levels = {found.level for found in KNOWN.values()}
    assert levels == {"rows", "modules", "training", "folds"}, "write a contract for it here"


@pytest.mark.parametrize("name", PASSED)
def test_it_is_finite_and_depends_on_neither_batches_nor_order_nor_threads(name):
    first = fields(name)
    assert first
    for key, value in first.items():
        assert torch.isfinite(value.double()).all(), key
        assert name not in ROWS or len(value) == 64
    order = np.random.RandomState(3).permutation(64)
    with threads(2):
        again = fields(name, batch=7, data=fixtures.dataset(order))
    for key, value in first.items():
        scale = max(float(value.double().abs().max()), 1e-12)
        torch.testing.assert_close(again[key].double() / scale, value.double() / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PASSED)
def test_measuring_changes_nothing(name):
    model = fixtures.vit().train()
    model.head.bias.requires_grad_(False)
    with untouched(model):
        fields(name, model)


@pytest.mark.parametrize("name", PASSED)
def test_what_may_not_be_read_or_is_not_finite_is_refused(name):
    with pytest.raises(SplitError):
        fields(name, data=fixtures.dataset(role="test"))
    model = fixtures.vit()
    with torch.no_grad():
        model.blocks[0].mlp[0].bias.fill_(float("nan"))
    if name not in ("weight", "bias", "labels"):
        with pytest.raises(NonFinite):
            fields(name, model)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_signals_are_finite_and_depend_on_ids_alone(name):
    found = []
    for order in (np.arange(64), np.random.RandomState(3).permutation(64)):
        data = fixtures.dataset()
        recorder = Recorder(data, (name,), window=2)
        for epoch in range(3):
            logits = fixtures.draw(64, 4, seed=epoch)
            for part in np.array_split(order, 5):
                recorder.batch(data.ids[part], logits=logits[part], loss=logits[part].exp().mean(1))
            recorder.end_epoch()
        found.append(recorder.signals().field(name))
    assert found[0].shape == (64,) and torch.isfinite(found[0].double()).all()
    assert torch.equal(*found)
    with pytest.raises(BadInput, match="training run"):
        collect(fixtures.vit(), fixtures.dataset(), name)


def test_files_hold_all_of_it(tmp_path):
    rows = fixtures.row_signals()
    same = Signals.load(rows.save(tmp_path / "rows", shard=20))
    np.testing.assert_array_equal(same.ids, rows.ids)
    assert all(torch.equal(same.field(name), rows.field(name)) for name in rows.names)
    modules = collect(fixtures.vit(), fixtures.dataset(), MODULES).modules
    again = ModuleSignals.load(modules.save(tmp_path / "modules"))
    for name, stats in modules.items():
        assert all(torch.equal(again[name].fields[key], value) for key, value in stats.fields.items())


@pytest.mark.parametrize("name", [name for name, found in KNOWN.items() if found.level == "folds"])
def test_held_out_signals_are_finite_and_depend_on_ids_alone(name):
    def made(order):
        data = fixtures.dataset(order)
        return Fit(fixtures.vit, steps=1, settings={"progress": False}, folds=2).run(data, (name,))[0]

    first, again = made(np.arange(64)), made(np.random.RandomState(3).permutation(64))
    assert len(first) == 64 and torch.isfinite(first.field(name)).all()
    torch.testing.assert_close(again.align(first.ids).field(name), first.field(name), rtol=1e-5, atol=1e-6)
    with pytest.raises(BadInput, match="training run"):
        collect(fixtures.vit(), fixtures.dataset(), name)
    with pytest.raises(SplitError):
        Fit(fixtures.vit, steps=1, folds=2).run(fixtures.dataset(role="test"), (name,))
