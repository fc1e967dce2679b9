"""px end to end, on the digits: score, plan, apply, recover, compare, save, load, for every unit; and what controls keep."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

import prunus as px
from contract import fixtures
from prunus.core.errors import BadInput, GateFailed
from prunus.flow.controls import random_like
from prunus.prunables.model import ModelPrunable
from prunus.tokens.gate import gates
from prunus.train.models import TinyCNN, TinyViT, seeded

pytestmark = pytest.mark.filterwarnings("ignore:below about")


@pytest.fixture(scope="module")
def digits() -> tuple[px.Dataset, px.Dataset]:
    """300 rows to fit, 150 to test; 8 x 8 pixels."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    ids = np.array([f"digit-{number:04d}" for number in range(len(x))])
    fit, test = slice(0, 300), slice(300, 450)
    return px.Dataset((x[fit], y[fit]), ids=ids[fit]), px.Dataset((x[test], y[test]), ids=ids[test], role="test")


@pytest.fixture(scope="module")
def cnn(digits) -> torch.nn.Module:
    model = seeded(TinyCNN, 0, width=8)
    px.fit(model, digits[0], epochs=6, lr=0.1, batch=32, seed=0)
    return model.eval()


EXAMPLE = torch.zeros(1, 1, 8, 8)


def test_rows(digits, cnn, tmp_path):
    fit, _ = digits
    score = px.score(fit, "el2n", model=cnn)
    plan = px.plan(score, "40% rows", select="ccs", data=fit)
    fewer = plan.apply(fit)
    assert sorted(fewer.ids) == plan.keep().tolist() == px.kept(plan).tolist() and len(fewer) == 120
    assert px.Plan.load(plan.save(tmp_path)).hash() == plan.hash()
    assert px.plan(px.Score.load(score.save(tmp_path / "score")), "40% rows", select="ccs").hash() == plan.hash()
    same = px.plan(fit, "el2n", "40% rows", model=cnn, select="ccs")
    assert same.hash() == plan.hash()
    new, taught = seeded(TinyCNN, 1, width=8), {"teacher": cnn, "how": "distill", "epochs": 1}
    student = px.recover(new, data=fewer, kept=0.4, **taught)
    assert torch.isfinite(student(EXAMPLE)).all()
    for rows in (fit, fewer):  # the plan says what is kept, and is applied where it was not yet
        by_plan = px.recover(new, data=rows, plan=plan, **taught)
        assert torch.equal(by_plan.conv1.weight, student.conv1.weight)
    other = px.recover(new, data=fewer, kept=1.0, **taught)
    assert not torch.equal(other.conv1.weight, student.conv1.weight)


def test_rows_for_a_target_are_planned_from_arrays_signals_and_files(digits, cnn, tmp_path):
    fit, _ = digits
    other = px.collect(cnn, fit.select(np.arange(40)), ("logits", "embedding")).rows
    folder = str(other.save(tmp_path / "target"))
    signals = px.collect(cnn, fit, "embedding").rows
    planned = [px.plan(fit, "label_mapping", "30% rows", target=target) for target in (other, other.logits, folder)]
    assert len({tuple(plan.keep()) for plan in planned}) == 1
    assert len(np.unique(fit.labels[np.isin(fit.ids, planned[0].keep())])) <= 5
    score = px.score(fit, "random", signals=signals)
    found = [px.plan(score, "30% rows", select="snp", clusters=5, target=target) for target in (other, folder)]
    assert found[0].hash() == found[1].hash() and found[0].keep().size == 90
    again = px.Plan.load(found[1].save(tmp_path / "plan"))
    assert again.hash() == found[1].hash()
    assert str(tmp_path) not in (tmp_path / "plan" / "plan.json").read_text()
    fewer = px.plan(score, "30% rows", select="sur")
    assert fewer.keep().size == 90


def test_a_cut_score_given_as_one_is_told_in_the_plan(digits, cnn, tmp_path):
    fit, _ = digits
    score, cut = px.score(fit, "el2n", model=cnn), px.score(fit, "margin", model=cnn)
    by_score = px.plan(score, "40% rows", select="ccs", cut_score=cut, hard_cut=0.2)
    by_group = px.plan(score, "40% rows", select="ccs", cut_score=cut.group("rows"), hard_cut=0.2)
    by_name = px.plan(score, "40% rows", select="ccs", cut_score="margin", hard_cut=0.2)
    assert by_score.keep().tolist() == by_group.keep().tolist() == by_name.keep().tolist()
    for number, plan in enumerate((by_score, by_group, by_name)):
        again = px.Plan.load(plan.save(tmp_path / str(number)))
        assert again.hash() == plan.hash()
        assert "margin" in str(again.provenance["options"]["cut_score"]) or number == 1


def test_what_an_allocator_states_is_in_the_plan(digits, cnn):
    fit, _ = digits
    plan = px.plan(px.score(fit, "el2n", model=cnn), "40% rows", select="top", allocate="knapsack")
    assert "HiGHS" in plan.provenance["notes"]["knapsack"] or "greedy" in plan.provenance["notes"]["knapsack"]
    assert "notes" not in px.plan(px.score(fit, "el2n", model=cnn), "40% rows", allocate="uniform").provenance


def end_to_end(model, plan, digits, folder, **compared) -> torch.nn.Module:
    """Apply, recover, save, load, compare; returns the recovered model."""
    fit, test = digits
    small = px.recover(plan.apply(model), data=fit, plan=plan, epochs=1, lr=0.01)
    px.save(small, plan, folder)
    assert not list(folder.rglob("*.pt")) and not list(folder.rglob("*.pkl"))
    like = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in like.parameters():
            parameter.zero_()
    same = px.load(folder, like=like)
    x = torch.as_tensor(test.backing.column("x")[:8])
    torch.testing.assert_close(same(x), small(x), rtol=0, atol=0)
    table = px.compare(model, plan, recovered=small, data=test, controls=2, calibration=fit, **compared)
    found = {(row.what, row.seed) for row in table if row.metric == "accuracy"}
    assert len(found) == 4 and sum(row.control for row in table if row.metric == "accuracy") == 2
    return small


def test_channels(digits, cnn, tmp_path):
    fit, test = digits
    plan = px.plan(cnn, "taylor", "50% macs", data=fit)
    small = end_to_end(cnn, plan, digits, tmp_path)
    assert sum(p.numel() for p in small.parameters()) == plan.planned["params"] < plan.dense["params"]
    score = px.score(cnn, "taylor", data=fit)
    assert px.plan(score, "50% macs", model=cnn, data=fit).keep("conv1.weight:0").tolist() == (
        plan.keep("conv1.weight:0").tolist()
    )
    with pytest.raises(GateFailed):
        px.compare(cnn, plan, data=test, controls=0, require="params <= 0.1 * dense")


def test_weights(digits, cnn, tmp_path):
    plan = px.plan(cnn, "wanda", "50% weights", data=digits[0])
    small = end_to_end(cnn, plan, digits, tmp_path)
    for name, kept in plan.groups.items():
        assert int(small.get_parameter(name).count_nonzero()) <= kept.count


def test_weights_of_a_solver(digits, cnn, tmp_path):
    plan = px.plan(cnn, "sparsegpt", "50% weights", data=digits[0])
    end_to_end(cnn, plan, digits, tmp_path)


def test_layers(digits, tmp_path):
    fit, _ = digits
    model = seeded(TinyViT, 0, size=8, patch=4, channels=1, dim=16, depth=4, heads=2).eval()
    plan = px.plan(model, "block_influence", "drop 2 layers", data=fit)
    small = end_to_end(model, plan, digits, tmp_path, example=EXAMPLE)
    assert len(small.blocks) == 2


def test_a_score_over_layers_serves_many_budgets(digits):
    fit, _ = digits
    model = seeded(TinyViT, 0, 8, 2, 1, 16, 6, 2)
    score = px.score(model, "block_influence", data=fit)
    direct = px.plan(model, "block_influence", "drop 2 layers", data=fit)
    again = px.plan(score, "drop 2 layers", model=model, data=fit)
    assert not direct.diff(again)
    with pytest.raises(BadInput, match="needs model="):
        px.plan(score, "drop 2 layers")


def test_tokens(tmp_path):
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(8, 2, 2, 2, 16, 24, num_classes=10).eval()
    x = fixtures.draw(40, 3, 8, 8)
    test = px.Dataset((x.numpy(), np.arange(40) % 10), role="test")
    plan = px.plan(model, "fastervlm", "25% tokens", at=0)
    small = plan.apply(model)
    px.save(small, plan, tmp_path)
    same = px.load(tmp_path, like=model)
    torch.testing.assert_close(same(x), small(x), rtol=0, atol=0)
    assert len(gates(same)) == len(gates(small)) == 1 and not gates(model)
    table = px.compare(model, plan, data=test, controls=2)
    assert sum(row.control for row in table if row.metric == "accuracy") == 2


@pytest.mark.parametrize(("unit", "method", "budget"), [
    ("channels", "l1", "50% macs"), ("channels", "obspa", "60% params"),
    ("weights", "magnitude", "50% weights"), ("weights", "magnitude", "30% weights"),
    ("layers", "random", "drop 9 layers"),
])  # fmt: skip
def test_controls_keep_the_counts_of_every_group(unit, method, budget):
    prunable, data = fixtures.prunable(unit), fixtures.dataset()
    plan = px.plan(prunable, method, budget, data=data)
    controls = [random_like(plan, seed, prunable=prunable, signals=fixtures.measured(unit)) for seed in (0, 1, 0)]
    counts = {name: kept.count for name, kept in plan.groups.items()}
    for control in controls:
        assert {name: kept.count for name, kept in control.groups.items()} == counts
        assert control.planned == plan.planned and control.provenance["method"] == f"{unit}/random"
        assert len(control.edits) == len(plan.edits) or unit == "channels"
    assert controls[0].hash() == controls[2].hash() != controls[1].hash()
    small = prunable.apply(controls[0])
    if unit == "channels":
        assert ModelPrunable(small, fixtures.EXAMPLE).cost()["macs"] == plan.planned["macs"]
    if unit == "layers":
        assert len(small.blocks) == plan.planned["layers"]


def test_controls_of_rows_keep_the_count_and_draw_from_all():
    score = px.score(fixtures.dataset(), "el2n", signals=fixtures.row_signals())
    plan = px.plan(score, "30% rows")
    drawn = [random_like(plan, seed).keep() for seed in range(8)]
    assert all(ids.size == plan.keep().size for ids in drawn)
    assert np.unique(np.concatenate(drawn)).size > 50
    assert len(random_like(plan, 0).apply(fixtures.dataset())) == 19
