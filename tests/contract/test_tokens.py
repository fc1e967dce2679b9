"""Contract of criteria over tokens, on four examples of 64 tokens, alone and inside an encoder."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torchvision

from contract import fixtures
from contract.catalogue import draws, every
from contract.checks import contents, generators_alone, round_trip, threads, untouched
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite
from prunus.core.plan import Plan
from prunus.core.rng import Rng
from prunus.prunables.stream import TokenStream
from prunus.tokens.gate import TokenSignals, gates
from prunus.tokens.select import keep_top

UNIT = "tokens"
criteria = every("criterion", UNIT)


def scores(method, signals: TokenSignals) -> torch.Tensor:
    given = {"rng": Rng(0, method.id)} if draws(method) else {}
    return method.load()(signals, **given)


@pytest.fixture
def encoder() -> torch.nn.Module:
    """A vision transformer of a library, with 64 tokens."""
    torch.random.fork_rng(devices=[])
    model = torchvision.models.VisionTransformer(16, 2, 2, 2, 16, 24, num_classes=4)
    for number, parameter in enumerate(model.parameters()):
        parameter.data = 0.3 * fixtures.draw(*parameter.shape, seed=number)
    return model.eval()


def planned(method, encoder, budget="25% tokens") -> Plan:
    return TokenStream(encoder).plan(method.id, budget, at=0)


@criteria
def test_one_finite_number_for_each_token(method):
    signals = fixtures.tokens()
    with generators_alone():
        found = scores(method, signals)
    assert found.shape == (4, 64) and found.is_floating_point() and torch.isfinite(found).all()
    for name, value in vars(fixtures.tokens()).items():
        assert value is None or torch.equal(getattr(signals, name), value), f"{name} was changed"


@criteria
def test_examples_are_scored_alone(method):
    signals, order = fixtures.tokens(), torch.tensor([2, 0, 3, 1])
    parts = {name: value for name, value in vars(signals).items() if value is not None}
    moved = TokenSignals(**{name: value[order] for name, value in parts.items()})
    torch.testing.assert_close(scores(method, moved), scores(method, signals)[order])
    one = TokenSignals(**{name: value[1:2] for name, value in parts.items()})
    kept = keep_top(scores(method, one), 16)
    with threads(2):
        assert torch.equal(keep_top(scores(method, signals), 16)[1:2], kept)


@criteria
def test_equal_tokens_are_ties_and_the_lower_ones_stay(method):
    if draws(method) or method.name == "grid":  # scores positions, not what is there
        return
    signals = fixtures.tokens()
    parts = {n: v[:, :1] if n == "features" else v[:, :, :1] for n, v in vars(signals).items() if v is not None}
    equal = TokenSignals(**{n: v.repeat_interleave(64, 1 if n == "features" else 2) for n, v in parts.items()})
    kept = keep_top(scores(method, equal), 16)
    assert torch.equal(kept, torch.arange(16).expand(4, 16))


@criteria
def test_nan_is_refused(method):
    signals = fixtures.tokens()
    wrong = {n: v.clone() for n, v in vars(signals).items() if v is not None}
    for name in method.needs:
        wrong[name].view(-1)[3] = float("nan")
    found = scores(method, TokenSignals(**wrong))
    if found.isnan().any():
        with pytest.raises(NonFinite, match="token scores are NaN"):
            keep_top(found, 16)
    else:
        assert torch.isfinite(found).all()  # positions or draws: what is in the tokens is not read


@criteria
@pytest.mark.parametrize(("budget", "count"), [("25% tokens", 16), ("1 tokens", 1), ("63 tokens", 63)])
def test_asked_is_planned_is_got(method, encoder, budget, count):
    plan = planned(method, encoder, budget)
    small = plan.apply(encoder)
    assert plan.planned["tokens"] == count
    x = fixtures.draw(3, 3, 16, 16)
    assert torch.isfinite(small(x)).all()
    (gate,) = gates(small).values()
    assert gate.kept.shape == (3, count)
    together = gate.kept
    for number in range(3):  # what stays of an image does not depend on the others
        small(x[number : number + 1])
        assert torch.equal(gate.kept[0], together[number])


@criteria
def test_extreme_budgets(method, encoder):
    whole = planned(method, encoder, "100% tokens")
    assert whole.removes_nothing
    x = fixtures.draw(2, 3, 16, 16)
    torch.testing.assert_close(whole.apply(encoder)(x), encoder(x), rtol=0, atol=0)
    for budget, nearest in (("0% tokens", "1 tokens"), ("65 tokens", "64 tokens")):
        with pytest.raises(BudgetUnreachable, match=nearest):
            planned(method, encoder, budget)
    with pytest.raises(BadInput, match="layers"):
        planned(method, encoder, "2 layers")


@criteria
def test_planning_changes_nothing(method, encoder, tmp_path):
    with untouched(encoder):
        plan = planned(method, encoder)
        small = plan.apply(encoder)
        with threads(2):
            assert contents(planned(method, copy.deepcopy(encoder)), tmp_path / "a") == contents(plan, tmp_path / "b")
    assert list(small.state_dict()) == list(encoder.state_dict())
    copy.deepcopy(small)(fixtures.draw(1, 3, 16, 16))


@criteria
def test_files_hold_all_of_it(method, encoder, tmp_path):
    plan = planned(method, encoder)
    round_trip(plan, tmp_path / "plan")
    x = fixtures.draw(2, 3, 16, 16)
    torch.testing.assert_close(Plan.load(tmp_path / "plan").apply(encoder)(x), plan.apply(encoder)(x), rtol=0, atol=0)
    with pytest.raises(BadInput, match="made for"):
        replace(plan, fingerprint="another").apply(encoder)
