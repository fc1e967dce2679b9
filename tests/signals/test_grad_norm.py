"""Exact gradient norms of rows: every rule against autograd, one row at a time."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from prunus.core.errors import NonFinite
from prunus.signals.collect import collect
from prunus.train.models import mlp, seeded
from prunus.train.step import infer_step, one_row, per_row_loss


def one_by_one(model: nn.Module, batch, rows: int) -> torch.Tensor:
    """The definition."""
    step = infer_step(batch)
    model.eval()
    found = []
    for row in range(rows):
        loss = step(model, one_row(batch, row, rows)).loss
        grads = torch.autograd.grad(loss.sum(), list(model.parameters()), allow_unused=True)
        found.append(sum(float(g.double().square().sum()) for g in grads if g is not None) ** 0.5)
    return torch.tensor(found)


def check(model: nn.Module, batch, rows: int, *, slow: bool = False) -> None:
    """Rules give what autograd gives, and no fallback was taken unless `slow`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = collect(model, [batch], "grad_norm").rows.grad_norm
    assert any("one backward pass" in str(w.message) for w in caught) is slow, [str(w.message) for w in caught]
    torch.testing.assert_close(found, one_by_one(model, batch, rows), rtol=1e-4, atol=1e-6)


class Wrapped(nn.Module):
    """A layer between an input stem and a head, so that gradients pass through it both ways."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.LazyLinear(width)

    def forward(self, x):
        x = self.layer(x)
        x = x[0] if isinstance(x, tuple) else x
        return self.head(x.flatten(1))


IMAGE = {
    "conv": nn.Conv2d(4, 6, 3, padding=1),
    "strided": nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2),
    "grouped": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
    "one by one": nn.Conv2d(4, 6, 1),
    "reflect": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "batch norm": nn.BatchNorm2d(4),
    "group norm": nn.GroupNorm(2, 4),
    "conv transpose": nn.ConvTranspose2d(4, 3, 2, stride=2),
    "instance norm": nn.InstanceNorm2d(4, affine=True),
    "prelu": nn.PReLU(4),
    "conv bn relu": nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3)),
}
SEQUENCE = {
    "linear": nn.Linear(8, 5),
    "wide linear": nn.Linear(8, 300),
    "layer norm": nn.LayerNorm(8),
    "layer norm of two axes": nn.LayerNorm((5, 8)),
    "rms norm": nn.RMSNorm(8),
    "conv1d": nn.Conv1d(5, 4, 3, padding=1),
    "attention": nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0),
    "gru": nn.GRU(8, 6, batch_first=True),
    "bilinear in a module": nn.Sequential(nn.Linear(8, 8), nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)),
}


@pytest.mark.parametrize("layer", IMAGE.values(), ids=IMAGE.keys())
def test_image_layers(layer):
    torch.manual_seed(0)
    x, y = torch.randn(5, 4, 6, 6), torch.randint(0, 3, (5,))
    model = Wrapped(layer, 3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    model(x)
    check(model, (x, y), 5)


@pytest.mark.parametrize("layer", SEQUENCE.values(), ids=SEQUENCE.keys())
def test_sequence_layers(layer):
    torch.manual_seed(0)
    x, y = torch.randn(6, 5, 8), torch.randint(0, 3, (6,))
    model = Wrapped(layer, 3)
    model(x)
    check(model, (x, y), 6)


def test_embedding_with_repeated_tokens_and_padding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.Flatten(), nn.Linear(24, 3))
    tokens = torch.randint(0, 4, (5, 6))
    check(model, (tokens, torch.randint(0, 3, (5,))), 5)


def test_a_shared_module_sums_its_gradients_first():
    torch.manual_seed(0)

    class Twice(nn.Module):
        def __init__(self, layer, norm):
            super().__init__()
            self.layer, self.norm, self.head = layer, norm, nn.LazyLinear(3)

        def forward(self, x):
            return self.head(self.norm(self.layer(self.norm(self.layer(x)).relu())).flatten(1))

    y = torch.randint(0, 3, (4,))
    for layer, norm, x in (
        (nn.Linear(6, 6), nn.LayerNorm(6), torch.randn(4, 6)),
        (nn.Linear(6, 6), nn.LayerNorm(6), torch.randn(4, 7, 6)),
        (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), torch.randn(4, 3, 5, 5)),
    ):
        model = Twice(layer, norm)
        model.eval()(x)
        check(model, (x, y), 4)


def test_tied_embedding_and_head():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=30, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    check(model, {"input_ids": torch.randint(0, 30, (4, 7))}, 4)


def test_gpt2_stores_weights_transposed_and_adds_a_position_table():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    check(model, {"input_ids": torch.randint(0, 30, (4, 7))}, 4)


def test_vision_transformer_with_class_token_and_positions(vit):
    check(vit, (torch.randn(5, 3, 8, 8), torch.randint(0, 10, (5,))), 5)
    assert isinstance(vit.cls_token, nn.Parameter)


def test_frozen_parameters_count_too(net, images):
    x, y = images
    before = collect(net, (x, y), "grad_norm").rows.grad_norm
    net.requires_grad_(False)
    assert torch.equal(collect(net, (x, y), "grad_norm").rows.grad_norm, before)
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_a_model_that_mixes_rows_goes_one_by_one():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x - x.mean(0))

    x, y = torch.randn(5, 4), torch.randint(0, 3, (5,))
    with pytest.warns(UserWarning, match="one backward pass"):
        found = collect(Mixing(), [(x, y)], "grad_norm").rows.grad_norm
    assert found.shape == (5,)


def test_one_pass_with_other_gradient_signals(net, images):
    x, y = images
    both = collect(net, (x, y), ("grad_norm", "grad", "probs"), batch=4)
    alone = collect(net, (x, y), "grad_norm", batch=4).rows.grad_norm
    torch.testing.assert_close(both.rows.grad_norm, alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        both.modules["linear"].grad, collect(net, (x, y), "grad").modules["linear"].grad, rtol=1e-4, atol=1e-6
    )


def test_infinite_gradients_are_named():
    model = seeded(mlp, 0, 4, 3, 2)

    def blown(module, batch):
        step = infer_step(batch)(module, batch)
        step.loss = step.loss * torch.where(torch.from_numpy(step.ids) == 1, float("inf"), 1.0)
        return step

    with pytest.raises(NonFinite, match=r"grad_norm.*\[1\]"):
        collect(model, [(torch.arange(3), torch.randn(3, 4), torch.tensor([0, 1, 0]))], "grad_norm", step=blown)


def test_last_layer_closed_form():
    """|p - y| sqrt(1 + |h|^2) for the last linear layer alone (Paul et al. 2021)."""
    model = nn.Linear(6, 4)
    x, y = torch.randn(9, 6), torch.randint(0, 4, (9,))
    found = collect(model, (x, y), ("grad_norm", "probs")).rows
    el2n = (found.probs - torch.nn.functional.one_hot(y, 4)).norm(dim=1)
    torch.testing.assert_close(found.grad_norm, el2n * (1 + x.square().sum(1)).sqrt(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        per_row_loss(model(x), y), -found.probs.log().gather(1, y[:, None])[:, 0], rtol=1e-4, atol=1e-5
    )
