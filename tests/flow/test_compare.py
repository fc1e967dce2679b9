"""`px.compare`: who gets which seed, what is paired with what, and the words that may stand beside a number."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import prunus as px
from prunus.core.errors import BadInput, GateFailed
from prunus.flow.compare import against_random, compare, measure
from prunus.report.verdicts import over_arms


class Pair(nn.Module):
    """One hidden layer on two inputs; the first two of its eight units carry the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(2, 8), nn.Linear(8, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.hidden.weight[:2] = 3 * torch.eye(2)
            self.hidden.weight[2:] = 0.01
            self.out.weight[:, :2] = 3 * torch.eye(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.hidden(x)))


X = torch.rand(120, 2, generator=torch.Generator().manual_seed(0))
Y = (X[:, 1] > X[:, 0]).long()


@pytest.fixture(scope="module")
def plan() -> px.Plan:
    return px.plan(Pair(), "l2", "25% channels", example=X[:2])


def rows() -> px.Dataset:
    return px.Dataset((X, Y), role="test")


def nudged(model: nn.Module, seed: int) -> nn.Module:
    """A recovery that differs with its seed."""
    with torch.no_grad():
        next(model.parameters()).add_(1e-3 * (seed + 1))
    return model


def test_without_recovery_accuracy_is_paired_over_rows(plan: px.Plan) -> None:
    results = compare(Pair(), plan, data=rows(), metrics=("params", "accuracy"))
    (pruned,) = results.where(method="channels/l2", metric="accuracy")
    assert pruned.seed is None
    assert pruned.note.startswith("accuracy better: +")
    assert "3 random controls, paired over 120 rows" in pruned.note
    assert [row.seed for row in results.where(control=True, metric="accuracy")] == [0, 1, 2]
    assert {line.pairs for line in over_arms(results)} == {3}  # what no seed changes stands beside every draw


def test_with_recovery_both_arms_have_the_same_seeds(plan: px.Plan) -> None:
    seen: list[int] = []

    def recover(model: nn.Module, seed: int) -> nn.Module:
        seen.append(seed)
        return nudged(model, seed)

    results = compare(Pair(), plan, data=rows(), recover=recover)
    assert seen == [0, 1, 2, 0, 1, 2]
    assert [row.seed for row in results.where(method="channels/l2", metric="accuracy")] == [0, 1, 2]
    assert {found.metric for found in over_arms(results)} >= {"accuracy"}
    assert "random controls" not in "".join(row.note for row in results)


def test_a_recovered_model_stands_for_seed_zero(plan: px.Plan) -> None:
    seen: list[int] = []

    def recover(model: nn.Module, seed: int) -> nn.Module:
        seen.append(seed)
        return nudged(model, seed)

    given = nudged(plan.apply(Pair()), 0)
    results = compare(Pair(), plan, data=rows(), recovered=given, recover=recover, controls=2)
    assert seen == [1, 0, 1]
    assert len(results.where(method="channels/l2", metric="accuracy")) == 2


def test_other_recoveries_stand_beside_with_the_same_seeds_and_do_not_pass_the_gate(plan: px.Plan) -> None:
    def broken(model: nn.Module, seed: int) -> nn.Module:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        return model

    beside = {"scratch-E": nudged, "broken": broken}
    results = compare(
        Pair(), plan, data=rows(), recover=nudged, beside=beside, controls=2, require="accuracy >= dense - 5"
    )
    found = {name: results.where(what=name, metric="accuracy") for name in beside}
    assert [row.seed for row in found["scratch-E"]] == [row.seed for row in found["broken"]] == [0, 1]
    own = results.where(what="channels/l2", metric="accuracy")
    assert [row.value for row in found["scratch-E"]] == [row.value for row in own]
    assert max(row.value for row in found["broken"]) < min(row.value for row in own)


def test_controls_that_were_not_recovered_are_marked(plan: px.Plan) -> None:
    results = compare(Pair(), plan, data=rows(), recovered=plan.apply(Pair()), metrics=("params",))
    assert all("not recovered" in row.note for row in results.where(control=True, metric="params"))
    (pruned,) = results.where(method="channels/l2", metric="params")
    assert pruned.note == ""


def test_no_control_is_said(plan: px.Plan) -> None:
    results = compare(Pair(), plan, data=rows(), recover=nudged, controls=0)
    assert [row.seed for row in results.where(metric="accuracy")] == [None, 0]
    assert str(results).endswith("no control was run")
    with pytest.raises(BadInput, match="not -1"):
        compare(Pair(), plan, data=rows(), controls=-1)


def test_a_gate_holds_for_the_mean_over_seeds(plan: px.Plan) -> None:
    compare(Pair(), plan, data=rows(), recover=nudged, controls=2, require="accuracy >= dense - 5")
    with pytest.raises(GateFailed):
        compare(Pair(), plan, data=rows(), controls=0, require="params >= dense")


def test_the_word_for_one_that_is_worse_or_equal() -> None:
    good = measure(Pair(), rows(), ("accuracy",))
    flipped = Pair()
    flipped.out.weight.data.neg_()
    bad = measure(flipped, rows(), ("accuracy", "params"))
    assert against_random(bad, [good, good]).startswith("accuracy below random: -100.0")
    assert against_random(good, [good]).startswith("accuracy tie: +0.0")
    assert against_random(measure(Pair(), rows(), ("params",)), [good]) == ""
