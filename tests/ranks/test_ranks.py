"""Ranks: factors of every kind of layer are exact, SVD-LLM loses what it says, language models get really smaller."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from graph.zoo import make
from prunus.core.errors import BadInput, UnknownName
from prunus.core.plan import Plan
from prunus.maths.rank_parts import as_matrices, as_weight, by_energy
from prunus.prunables.edits import add_parts
from prunus.prunables.model import ModelPrunable
from prunus.prunables.ranks import rank_matrices
from prunus.ranks.svd import svd
from prunus.ranks.svd_llm import svd_llm

LAYERS = {
    "strided": (nn.Conv2d(4, 6, (3, 5), stride=(2, 3), padding=(1, 2), dilation=(2, 1)), (2, 4, 11, 13)),
    "grouped": (nn.Conv2d(8, 12, 3, padding=1, groups=2, bias=False), (2, 8, 7, 7)),
    "same": (nn.Conv2d(4, 6, (2, 3), padding="same"), (2, 4, 8, 9)),
    "reflected": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 8, 9)),
    "one": (nn.Conv1d(4, 9, 5, stride=2, padding=2), (2, 4, 17)),
    "three": (nn.Conv3d(3, 5, 3, padding=1), (1, 3, 5, 5, 5)),
    "linear": (nn.Linear(7, 9), (3, 7)),
}


@pytest.mark.parametrize("scheme", ["channel", "spatial", "decouple"])
@pytest.mark.parametrize("name", list(LAYERS))
def test_all_parts_give_the_same_outputs_and_some_give_the_product(name, scheme):
    layer, shape = LAYERS[name]
    net, x = nn.Sequential(layer).double(), torch.randn(shape, dtype=torch.float64)
    (one,) = rank_matrices(net, scheme)
    weight = layer.weight.detach()
    torch.testing.assert_close(as_weight(one.read(net), one.shape, one.groups, one.scheme), weight, rtol=0, atol=0)
    parts = by_energy(as_matrices(weight, one.groups, one.scheme))
    edit = one.edit(parts, np.arange(one.size))
    prunable = ModelPrunable(net, x)
    thin = nn.Sequential(type(layer)(*_arguments(layer))).double()
    thin.load_state_dict(net.state_dict())
    add_parts(thin, [edit], lambda module, side: None)
    torch.testing.assert_close(thin(x), net(x), rtol=1e-9, atol=1e-9)
    plan = px.plan(prunable, "ranks/svd", "80% params", scheme=scheme)
    small = plan.apply(net)
    assert isinstance(small[0], nn.Sequential)
    torch.testing.assert_close(small(x), plan.apply(net, mode="mask")(x), rtol=1e-9, atol=1e-9)
    assert ModelPrunable(small, x).cost()["macs"] == plan.planned["macs"]


def _arguments(layer):
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    bias = layer.bias is not None
    return (
        *(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation),
        *(layer.groups, bias, layer.padding_mode),
    )


class Matrix:
    """What a solver reads."""

    def __init__(self, weight, inputs) -> None:
        self.name, self.weight, self.hessian = "m.weight", weight[None], 2 * inputs.T @ inputs


def test_svd_llm_loses_exactly_the_energy_it_drops():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 8, generator=generator, dtype=torch.float64)
    inputs = (
        torch.randn(200, 8, generator=generator, dtype=torch.float64) @ torch.randn(8, 8, generator=generator).double()
    )
    matrix = Matrix(weight, inputs)
    ours, plain = svd_llm(matrix, damp=0.0), svd(matrix)
    total = (inputs @ weight.T).square().sum()

    def loss(parts, rank):
        near = parts.left[0, :, :rank] @ parts.right[0, :rank]
        return float((inputs @ (weight - near).T).square().sum() / total)

    for rank in range(1, 8):
        assert loss(ours, rank) == pytest.approx(float(ours.scores[rank]), rel=1e-6)
        assert loss(ours, rank) < loss(plain, rank)


def test_svd_llm_survives_dead_inputs_and_refuses_other_schemes():
    weight, inputs = torch.randn(6, 5).double(), torch.randn(50, 5).double()
    inputs[:, 2] = 0
    parts = svd_llm(Matrix(weight, inputs))
    assert torch.isfinite(parts.right).all()
    torch.testing.assert_close(inputs @ (parts.left @ parts.right)[0].T, inputs @ weight.T, rtol=1e-4, atol=1e-4)
    with pytest.raises(BadInput, match="scheme='channel'"):
        svd_llm(Matrix(weight, inputs[:, :3]))


class Two(nn.Module):
    """Two linear layers: the second one's inputs change when the first is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(10, 16), nn.Linear(16, 12)

    def forward(self, x):
        return self.two(self.one(x).relu())


def test_the_update_refits_to_the_inputs_of_the_cut_model():
    torch.manual_seed(1)
    net, x = Two(), torch.randn(64, 10)
    plain = px.plan(net, "svd_llm", "55% params", data=[(x, None)])
    fitted = px.plan(net, "svd_llm", "55% params", data=[(x, None)], update=True)
    assert {name: one.count for name, one in plain.groups.items()} == {n: o.count for n, o in fitted.groups.items()}
    assert all(np.array_equal(a.v, b.v) for a, b in zip(plain.edits, fitted.edits))
    first = (
        next(edit for edit in fitted.edits if edit.module == "one"),
        next(e for e in plain.edits if e.module == "one"),
    )
    np.testing.assert_allclose(first[0].u, first[1].u, rtol=1e-3, atol=1e-4)  # its inputs are what they were
    errors = []
    for plan in (plain, fitted):
        small = plan.apply(net)
        hidden = small.one(x).relu()
        errors.append(float((small.two(hidden) - net.two(hidden)).detach().square().sum()))
    assert errors[1] < errors[0]
    with pytest.raises(BadInput, match="data="):
        px.plan(net, "ranks/svd", "55% params", example=x, update=True)


def test_t5_whose_feed_forward_looks_at_a_weight_itself():
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 32}
    model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()
    ids = torch.arange(12).reshape(2, 6)
    small = px.plan(model, "ranks/svd", "85% params", layers="blocks").apply(model)
    thin = small.get_submodule("encoder.block.0.layer.1.DenseReluDense.wo")
    assert isinstance(thin, nn.Sequential)
    with torch.no_grad():
        assert torch.isfinite(small(input_ids=ids, decoder_input_ids=ids).logits).all()


@pytest.mark.parametrize("name", ["llama_tied", "gpt2"])
def test_language_models_get_smaller_and_come_back_from_disk(name, tmp_path):
    model, example = make(name)
    plan = px.plan(model, "svd_llm", "85% params", data=[dict(example)], layers="blocks")
    small = plan.apply(model).eval()
    assert sum(p.numel() for p in small.parameters()) == plan.planned["params"] <= 0.85 * plan.dense["params"]
    assert all(any(part.isdigit() for part in edit.module.split(".")) for edit in plan.edits)
    with torch.no_grad():
        given = small(**example)
        px.save(small, plan, tmp_path)
        again = px.load(tmp_path, like=model)(**example)
    torch.testing.assert_close(again.logits, given.logits, rtol=0, atol=0)
    Plan.load(tmp_path / "plan-0").apply(model)


def test_shared_weights_stay_whole():
    model, _ = make("llama_tied")
    assert "lm_head.weight" not in {one.name for one in rank_matrices(model)}


def test_bad_input_is_named():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    with pytest.raises(UnknownName, match="scheme"):
        px.plan(net, "ranks/svd", "80% params", scheme="columns")
    with pytest.raises(UnknownName, match="scope"):
        px.plan(net, "ranks/svd", "80% params", scope="some")
    with pytest.raises(UnknownName, match="pin"):
        px.plan(net, "ranks/svd", "80% params", pin=["1.weight"])
    with pytest.raises(BadInput, match="example="):
        px.plan(net, "ranks/svd", "80% macs")
    with pytest.raises(BadInput, match="no weight"):
        px.plan(nn.Sequential(nn.ReLU()), "ranks/svd", "80% params")
    with pytest.raises(BadInput, match="removes ranks"):
        px.plan(net, "ranks/svd", "3 layers")
