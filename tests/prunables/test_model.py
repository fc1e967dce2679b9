"""ModelPrunable: channels, weights and layers of a model, and the edits of a plan."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from graph.zoo import make
from prunus.core.budget import Budget
from prunus.core.edits import AddBias, Bypass, Factor, LowRank, SetWeight
from prunus.core.errors import BadInput, FingerprintMismatch
from prunus.core.plan import Kept, Plan
from prunus.core.prunable import Prunable
from prunus.graph.prove import prove
from prunus.graph.record import run
from prunus.prunables.edits import LowRankLinear
from prunus.prunables.model import ModelPrunable


def _plan(unit, groups, prunable, edits=(), **facts):
    provenance = {"example": prunable.describe()}
    budget = Budget.parse("50% params" if unit == "channels" else "50% weights" if unit == "weights" else "1 layers")
    return Plan(unit, groups, budget, edits=edits, provenance=provenance, fingerprint=prunable.fingerprint(), **facts)


def _linear():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False)).double()
    return ModelPrunable(model, torch.randn(5, 4).double())


@pytest.fixture(scope="module")
def resnet():
    model, example = make("cifar_b")
    return ModelPrunable(model, example)


def test_is_a_prunable(resnet):
    assert isinstance(resnet, Prunable)


def test_channels_are_cut_from_a_plan_alone(resnet):
    keep = {g.name: Kept.of_ids(np.arange(0, g.size, 2), g.size) for g in resnet.groups()}
    plan = _plan("channels", keep, resnet)
    small = plan.apply(resnet.model)
    ids = {name: kept.index() for name, kept in keep.items()}
    assert prove(resnet.model, resnet.graph, ids, resnet.example, small=small) < 1e-9
    assert resnet.cost(plan)["params"] == sum(p.numel() for p in small.parameters())
    assert resnet.cost(plan)["macs"] < resnet.cost()["macs"]


def test_mask_keeps_the_shapes(resnet):
    keep = {g.name: Kept.of_ids(np.arange(0, g.size, 2), g.size) for g in resnet.groups()}
    plan = _plan("channels", keep, resnet)
    with torch.no_grad():
        masked, small = (resnet.apply(plan, mode=mode)(resnet.example) for mode in ("mask", "cut"))
    torch.testing.assert_close(masked, small)


def test_inplace_consumes_the_model():
    model, example = make("cifar_b")
    prunable = ModelPrunable(model, example)
    group = prunable.groups()[0]
    plan = _plan("channels", {group.name: Kept.of_ids(np.arange(3), group.size)}, prunable)
    assert prunable.apply(plan, inplace=True) is model
    assert model.get_parameter(group.slots[0].parameter).shape[group.slots[0].axis] == 3


def test_other_model_is_refused(resnet):
    group = resnet.groups()[0]
    plan = _plan("channels", {group.name: Kept.of_ids(np.arange(3), group.size)}, resnet)
    with pytest.raises(FingerprintMismatch):
        plan.apply(make("cifar_a")[0])


def test_edits_follow_the_cut():
    prunable = _linear()
    first, _, second = prunable.model
    keep = np.array([0, 2, 5])
    new = second.weight.detach().numpy() * 2
    edits = (SetWeight("2.weight", new), AddBias("2", np.array([1.0, 2.0, 3.0])), AddBias("0", np.arange(6.0)))
    small = prunable.apply(_plan("channels", {"0.weight:0": Kept.of_ids(keep, 6)}, prunable, edits))
    x = prunable.example
    hidden = torch.relu(first(x) + torch.arange(6.0))[:, keep]
    torch.testing.assert_close(small(x), hidden @ torch.from_numpy(new[:, keep]).T + torch.tensor([1.0, 2, 3]))
    assert second.bias is None


def test_low_rank_and_factor_follow_the_cut():
    prunable = _linear()
    first, _, _second = prunable.model
    keep = np.array([1, 4])
    rng = np.random.default_rng(0)
    a, b, u, v = rng.random((2, 4)), rng.random((6, 2)), rng.random((3, 2)), rng.random((2, 6))
    edits = (LowRank("0", a, b), Factor("2", u, v))
    small = prunable.apply(_plan("channels", {"0.weight:0": Kept.of_ids(keep, 6)}, prunable, edits))
    x = prunable.example
    hidden = torch.relu(first(x) + x @ torch.from_numpy(b @ a).T)[:, keep]
    torch.testing.assert_close(small(x), hidden @ torch.from_numpy((u @ v)[:, keep]).T)
    assert isinstance(small[0], LowRankLinear)
    assert set(small.state_dict()) >= {"0.low_rank_a", "0.low_rank_b", "2.0.weight", "2.1.weight"}


@pytest.mark.parametrize("name", ["gpt2", "cifar_b"])
def test_weights_are_set_to_zero_in_matrix_order(name):
    model, example = make(name)
    prunable = ModelPrunable(model, example)
    group = prunable.groups("weights")[1]
    weight = model.get_parameter(group.name)
    stored = group.slots[0].axis == 1
    mask = np.zeros((weight.shape[group.slots[0].axis], group.size // weight.shape[group.slots[0].axis]), dtype=bool)
    mask[1] = True
    small = prunable.apply(_plan("weights", {group.name: Kept.of_mask(mask)}, prunable))
    after = small.get_parameter(group.name)
    rows = after.transpose(0, 1) if stored else after
    assert rows[1].any()
    assert not rows[0].any()
    assert not rows[2:].any()


def test_every_matrix_once_in_weight_groups():
    model, example = make("llama_tied")
    names = [group.name for group in ModelPrunable(model, example).groups("weights")]
    assert len(names) == len(set(names)) == 2 * 7 + 1


class Reader(nn.Module):
    """Two recurrent layers, a cell and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.cell, self.out = nn.LSTM(4, 6, 2), nn.GRUCell(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.cell(self.rnn(x)[0][-1]))


def test_recurrent_matrices_are_weights_too():
    prunable = ModelPrunable(Reader(), torch.zeros(7, 2, 4))
    sizes = {group.name: group.size for group in prunable.groups("weights")}
    assert sizes == {
        "rnn.weight_ih_l0": 96, "rnn.weight_hh_l0": 144, "rnn.weight_ih_l1": 144, "rnn.weight_hh_l1": 144,
        "cell.weight_ih": 90, "cell.weight_hh": 75, "out.weight": 15,
    }  # fmt: skip
    plan = px.plan(prunable, "magnitude", "50% weights", within="all", minimum=0, layers="recurrent")
    assert set(plan.groups) == set(sizes) - {"out.weight"}
    sparse = plan.apply(prunable)
    for name, one in plan.groups.items():
        assert int(sparse.get_parameter(name).count_nonzero()) == one.count
    x = torch.randn(7, 2, 4)
    assert not torch.equal(sparse(x), prunable.model(x))
    assert set(px.plan(prunable, "magnitude", "50% weights", layers="feedforward").groups) == {"out.weight"}
    with pytest.raises(BadInput, match="layers='feedforward'"):
        px.plan(prunable, "wanda", "50% weights", data=[(torch.randn(7, 2, 4), None)])
    with pytest.raises(BadInput, match="is recurrent"):
        px.plan(prunable, "icbs", "50% weights", data=[(torch.randn(7, 2, 4), torch.zeros(2, dtype=torch.long))])


@pytest.mark.parametrize("name", ["llama", "bert", "gpt2"])
def test_layers_of_a_language_model(name):
    model, example = make(name)
    prunable = ModelPrunable(model, example)
    group = prunable.groups("layers")[0]
    small = prunable.apply(_plan("layers", {group.name: Kept.of_ids(np.array([1]), 2)}, prunable))
    assert getattr(small.config, "num_hidden_layers", None) == 1
    blocks = small.get_submodule(group.name)
    assert len(blocks) == 1
    assert all(part.layer_idx == 0 for part in blocks.modules() if isinstance(vars(part).get("layer_idx"), int))
    assert model.config.num_hidden_layers == 2
    kept = dict(model.get_submodule(group.name)[1].named_parameters())
    assert all(torch.equal(kept[key], value) for key, value in blocks[0].named_parameters())
    run(small, example)


def test_first_block_of_a_stage_stays(resnet):
    group = next(g for g in resnet.groups("layers") if g.name == "layer2")
    assert resnet.fixed["layer2"].tolist() == [0]
    small = resnet.apply(
        _plan("layers", {"layer2": Kept.of_ids(np.array([0]), group.size)}, resnet, (Bypass("layer2.1"),))
    )
    assert len(small.layer2) == 1
    with pytest.raises(BadInput, match=r"layer2\.0"):
        resnet.apply(_plan("layers", {"layer2": Kept.of_ids(np.array([1]), group.size)}, resnet))


def test_check_says_what_cannot_be_pruned(resnet):
    found = resnet.check()
    assert found["prunable_share"] > 0.99
    assert {entry["group"] for entry in found["groups"]} == {group.name for group in resnet.groups()}
    assert any("model input" in entry["reason"] for entry in found["frozen"])
    assert found["unseen"] == []


def test_scoring_a_plan_is_fast(resnet):
    sizes = {group.name: group.size // 2 for group in resnet.groups()}
    import time

    start = time.perf_counter()
    for _ in range(100):
        resnet.count(sizes)
    assert time.perf_counter() - start < 2.0
