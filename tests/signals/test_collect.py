"""One pass, every signal: values against explicit computation, independence of batches, a model left as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.core.errors import BadInput, NonFinite, SplitError, UnknownName
from prunus.signals.catalogue import providers
from prunus.signals.collect import collect
from prunus.signals.modules import ModuleSignals
from prunus.signals.rowset import Signals
from prunus.train.models import mlp, seeded
from prunus.train.step import Step, per_row_loss, transformers_step

EVERYTHING = (
    *("probs", "logits", "loss", "embedding", "grad_norm", "input_mean", "input_var", "input_norm"),
    *("hessian", "grad", "block_influence", "weight"),
)


def inputs_of(model: nn.Module, name: str, x: torch.Tensor) -> torch.Tensor:
    """What a module saw, in one batch."""
    seen = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    with torch.no_grad():
        model.eval()(x)
    handle.remove()
    return seen[0]


def columns(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """[N, in * taps], float64."""
    x = x.double()
    if isinstance(module, nn.Conv2d):
        return (
            F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)
            .transpose(1, 2)
            .flatten(0, 1)
        )
    return x.reshape(-1, x.shape[-1])


@pytest.mark.parametrize("name", ["conv1", "layer1.0.conv2", "layer2.0.conv1", "linear"])
def test_moments_and_hessian_are_the_explicit_ones(net, images, name):
    x, y = images
    stats = collect(net, (x, y), ("input_mean", "input_var", "input_norm", "hessian"), batch=5).modules[name]
    table = columns(net.get_submodule(name), inputs_of(net, name, x))
    taps = stats.input_mean.shape[1]
    assert stats.input_mean.shape == (table.shape[1] // taps, taps)
    torch.testing.assert_close(stats.input_mean.flatten().double(), table.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stats.input_var.flatten().double(), table.var(0), rtol=1e-5, atol=1e-7)
    norm = (table.square().sum(0) / len(x)).sqrt()
    torch.testing.assert_close(stats.input_norm.flatten().double(), norm, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stats.hessian.double(), 2 * table.T @ table, rtol=1e-4, atol=1e-4)


def test_variance_is_exact_far_from_zero():
    torch.manual_seed(0)
    x = torch.randn(200, 6) * 0.01 + 50
    stats = collect(nn.Linear(6, 2), (x, torch.zeros(200, dtype=torch.long)), ("input_var",), batch=17).modules[""]
    torch.testing.assert_close(stats.input_var[:, 0].double(), x.double().var(0), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2),
        nn.Conv2d(4, 6, (3, 2), padding=(0, 1)),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 8, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
    ],
    ids=str,
)
def test_every_convolution_form(layer):
    torch.manual_seed(0)
    x = torch.randn(9, 4, 7, 6) + 1
    model = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3))
    model(x)
    stats = collect(
        model, (x, torch.zeros(9, dtype=torch.long)), ("input_mean", "input_var", "hessian"), batch=4
    ).modules["0"]
    pad = (
        layer._reversed_padding_repeated_twice
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros"
        else [p for s in reversed(layer.padding) for p in (s, s)]
    )
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    unfolded = F.unfold(F.pad(x.double(), pad, mode=mode), layer.kernel_size, layer.dilation, 0, layer.stride)
    table = unfolded.transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(stats.input_mean.flatten().double(), table.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(stats.input_var.flatten().double(), table.var(0), rtol=1e-5, atol=1e-6)
    parts = table.unflatten(1, (layer.groups, -1)).transpose(0, 1)
    explicit = 2 * parts.transpose(1, 2) @ parts
    torch.testing.assert_close(
        stats.hessian.double(), explicit if layer.groups > 1 else explicit[0], rtol=1e-4, atol=1e-4
    )
    seen = stats.per_output("input_var", layer.out_channels)
    assert seen.shape[1] == layer.weight[0].numel()


def test_row_signals_are_the_explicit_ones(net, images):
    x, y = images
    rows = collect(net, (x, y), ("probs", "loss", "embedding"), batch=4).rows
    with torch.no_grad():
        logits = net.eval()(x)
    torch.testing.assert_close(rows.probs, logits.softmax(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rows.loss, per_row_loss(logits, y), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rows.embedding, inputs_of(net, "linear", x), rtol=1e-5, atol=1e-5)
    assert rows.labels.tolist() == y.tolist()


def test_grad_is_the_gradient_of_the_mean_loss(net, images):
    x, y = images
    found = collect(net, (x, y), "grad", batch=4).modules
    net.eval()
    loss = per_row_loss(net(x), y).mean()
    names = [name for name, _ in net.named_parameters()]
    for name, grad in zip(names, torch.autograd.grad(loss, list(net.parameters()))):
        torch.testing.assert_close(found.parameter(name, "grad"), grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_results_do_not_depend_on_the_batch(net, images, batch):
    x, y = images
    need = tuple(name for name in EVERYTHING if name != "weight")
    one, other = (collect(net, (x, y), need, batch=size) for size in (5, batch))
    for name in one.rows.names:
        torch.testing.assert_close(one.rows.field(name), other.rows.field(name), rtol=1e-5, atol=1e-5)
    for name, stats in one.modules.items():
        for field, value in stats.fields.items():
            scale = float(value.abs().max())
            torch.testing.assert_close(value, other.modules[name].fields[field], rtol=1e-5, atol=1e-5 * max(scale, 1))


def test_results_do_not_depend_on_threads(vit):
    x, y = torch.randn(9, 3, 8, 8), torch.arange(9)
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(collect(vit, (x, y), ("probs", "grad_norm", "input_var", "block_influence")))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found[0].rows.grad_norm, found[1].rows.grad_norm, rtol=1e-5, atol=1e-5)
    for name, stats in found[0].modules.items():
        for field, value in stats.fields.items():
            torch.testing.assert_close(value, found[1].modules[name].fields[field], rtol=1e-5, atol=1e-5)


def test_modules_that_see_one_tensor_share_one_source():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up, self.down = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 6)

        def forward(self, x):
            return self.down(self.gate(x).relu() * self.up(x))

    modules = collect(
        Gated(), (torch.randn(20, 6), torch.zeros(20, dtype=torch.long)), ("hessian", "input_var"), batch=8
    ).modules
    assert modules["gate"].hessian is modules["up"].hessian
    assert modules["gate"].input_var is modules["up"].input_var
    assert modules["down"].hessian.shape == (8, 8)


def test_a_tie_that_breaks_later_is_found():
    class Later(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.calls = nn.Linear(4, 4), nn.Linear(4, 4), 0

        def forward(self, x):
            return self.a(x) + self.b(x if float(x[0, 0]) < 5 else x * 2)

    x = torch.rand(6, 4)
    x[3:] += 5
    found = collect(Later(), (x, torch.zeros(6, dtype=torch.long)), "input_mean", batch=3).modules
    torch.testing.assert_close(found["a"].input_mean[:, 0], x.mean(0))
    torch.testing.assert_close(found["b"].input_mean[:, 0], torch.cat([x[:3], 2 * x[3:]]).mean(0))

    batches = [(x[:3], torch.zeros(3, dtype=torch.long)), (x[3:], torch.zeros(3, dtype=torch.long))]
    with pytest.raises(BadInput, match="read once only"):
        collect(Later(), iter(batches), "input_mean")


def test_a_module_called_twice_counts_both_inputs():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    x = torch.randn(8, 4)
    stats = collect(model, (x, torch.zeros(8, dtype=torch.long)), "input_mean").modules["0"]
    with torch.no_grad():
        both = torch.cat([x, layer(x).relu()])
    torch.testing.assert_close(stats.input_mean[:, 0], both.mean(0))


def snapshot(model: nn.Module):
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [buffer.clone() for buffer in model.buffers()],
        [
            len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
            for module in model.modules()
        ],
    )


def test_the_model_is_left_as_it_was(net, images):
    x, y = images
    net.train()
    net.layer1.eval()
    net.conv1.weight.requires_grad_(False)
    net.linear.weight.grad = torch.ones_like(net.linear.weight)
    before, state = snapshot(net), torch.get_rng_state()
    collect(net, (x, y), EVERYTHING, batch=4)
    for a, b in zip(before, snapshot(net)):
        assert all(torch.equal(p, q) if isinstance(p, torch.Tensor) else p == q for p, q in zip(a, b))
    assert torch.equal(state, torch.get_rng_state())
    copied = copy.deepcopy(net)
    assert copied.state_dict().keys() == net.state_dict().keys()
    assert torch.equal(copied.eval()(x), net.eval()(x))


def test_the_model_is_left_as_it_was_after_an_error(vit):
    x = torch.randn(6, 3, 8, 8)
    x[4, 0, 0, 0] = float("nan")
    before = snapshot(vit)
    with pytest.raises(NonFinite, match="patch_embed"):
        collect(vit, (x, torch.zeros(6, dtype=torch.long)), ("input_var", "grad_norm"), batch=2)
    assert before[1] == snapshot(vit)[1]
    assert before[4] == snapshot(vit)[4]
    assert isinstance(vit.cls_token, nn.Parameter)


@pytest.mark.parametrize("need", ["input_norm", "hessian", "block_influence", "probs", "grad"])
def test_nan_names_where(vit, need):
    with torch.no_grad():
        vit.blocks[1].mlp[0].bias[3] = float("nan")
    where = {
        "input_norm": r"blocks\.1\.mlp\.2",
        "hessian": r"blocks\.1\.mlp\.2",
        "block_influence": r"blocks\.1",
        "probs": r"ids \[0, 1",
    }
    with pytest.raises(NonFinite, match=where.get(need, ".")):
        collect(vit, (torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.long)), need)


def test_half_precision_inputs_do_not_overflow():
    model = nn.Linear(5, 2).to(torch.float16)
    x = torch.full((40, 5), 300.0, dtype=torch.float16)  # the square is beyond float16

    def step(module: nn.Module, batch) -> Step:
        return Step(batch[0], module(batch[1]).float() * 0, batch[2], None)

    stats = collect(model, (x, torch.zeros(40, dtype=torch.long)), ("input_norm", "hessian"), step=step).modules[""]
    torch.testing.assert_close(stats.input_norm, torch.full((5, 1), 300.0))
    torch.testing.assert_close(stats.hessian, torch.full((5, 5), 2 * 40 * 300.0**2))


def test_test_rows_are_refused(net, images):
    class Rows:
        role = "test"

        def batches(self, batch):
            raise AssertionError("read")

    with pytest.raises(SplitError, match="test"):
        collect(net, Rows(), "probs")
    with pytest.raises(SplitError):
        collect(net, images, "probs", role="test")


def test_bad_requests_say_what_to_do(net, images):
    with pytest.raises(UnknownName, match="probs"):
        collect(net, images, "prob")
    with pytest.raises(BadInput, match="Recorder"):
        collect(net, images, "aum")
    with pytest.raises(BadInput, match="attention_layer"):
        collect(net, images, "probs", layer=3)
    with pytest.raises(BadInput, match="no rows"):
        collect(net, [], "probs")
    with pytest.raises(BadInput, match="nothing"):
        collect(net, images, "probs", modules=["nothing"])
    with pytest.raises(BadInput, match="labels"):
        collect(net, [(images[0], None)], "loss")


def test_module_filter_and_ready_batches(net, images):
    x, y = images
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 4)
    found = collect(net, loader, "input_norm", modules=lambda name, module: name.startswith("layer1"))
    assert set(found.modules) == {"layer1.0.conv1", "layer1.0.conv2"}
    assert found.rows is None


def test_rows_go_to_shards_as_they_come(net, images, tmp_path):
    x, y = images
    ids = np.array([f"row{number}" for number in range(len(x))])
    rows = collect(net, (ids, x, y), ("probs", "embedding"), batch=4, out=tmp_path / "s").rows
    assert rows.ids.tolist() == ids.tolist()
    memory = collect(net, (ids, x, y), ("probs", "embedding"), batch=4).rows
    assert torch.equal(memory.probs, Signals.load(tmp_path / "s").probs)


def test_what_was_not_reached_is_listed(vit):
    found = collect(vit, (torch.randn(3, 3, 8, 8), torch.arange(3)), "input_norm").modules
    assert found.unreached(vit, "input_norm") == ("cls_token", "pos_embed")
    assert "head.weight" in found.unreached(vit, "hessian")


def test_module_signals_round_trip(net, images, tmp_path):
    found = collect(net, images, ("hessian", "input_mean", "grad")).modules
    found.save(tmp_path / "m")
    back = ModuleSignals.load(tmp_path / "m")
    assert set(back) == set(found)
    assert torch.equal(back["layer1.0.conv1"].hessian, found["layer1.0.conv1"].hessian)
    assert back.provenance == found.provenance
    with pytest.raises(UnknownName, match=r"layer1\.0\.conv1"):
        back["layer1.0.conv9"]


def test_every_file_declares_what_it_provides():
    known = providers()
    named = "probs loss embedding grad_norm hessian input_var grad block_influence aum weight cls_attention"
    assert {*named.split(), "received_attention"} <= set(known)
    for provider in known.values():
        assert provider.version >= 1
        assert provider.memory
        assert provider.level in ("rows", "modules", "training", "folds")
        assert provider.doc
        if provider.level not in ("training", "folds"):
            provider.load()


def llama():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=32,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def test_padding_tokens_do_not_count():
    model = llama()
    tokens = torch.randint(1, 40, (4, 7))
    mask = torch.ones_like(tokens)
    plain = [
        {
            "ids": torch.tensor([row]),
            "input_ids": tokens[row : row + 1, : 7 - row],
            "attention_mask": mask[row : row + 1, : 7 - row],
        }
        for row in range(4)
    ]
    padded = mask.clone()
    for row in range(4):
        padded[row, 7 - row :] = 0
    batch = [{"ids": torch.arange(4), "input_ids": tokens, "attention_mask": padded}]
    need = ("input_mean", "input_var", "hessian", "block_influence", "loss")
    one, other = collect(model, plain, need), collect(model, batch, need)
    torch.testing.assert_close(one.rows.loss, other.rows.loss, rtol=1e-4, atol=1e-5)
    for name, stats in one.modules.items():
        if name == "lm_head":
            continue
        for field, value in stats.fields.items():
            torch.testing.assert_close(
                value, other.modules[name].fields[field], rtol=1e-4, atol=1e-5, msg=f"{name}.{field}"
            )


def test_llama_shares_q_k_v_and_gate_up():
    model = llama()
    found = collect(model, [{"input_ids": torch.randint(1, 40, (3, 9))}], "hessian").modules
    layer = "model.layers.0"
    assert found[f"{layer}.self_attn.q_proj"].hessian is found[f"{layer}.self_attn.v_proj"].hessian
    assert found[f"{layer}.mlp.gate_proj"].hessian is found[f"{layer}.mlp.up_proj"].hessian
    assert found[f"{layer}.self_attn.o_proj"].hessian is not found[f"{layer}.self_attn.q_proj"].hessian


def test_causal_loss_is_that_of_transformers():
    model = llama()
    tokens = torch.randint(1, 40, (1, 9))
    ours = transformers_step(model, {"input_ids": tokens}).loss
    torch.testing.assert_close(ours[0], model(tokens, labels=tokens).loss, rtol=1e-5, atol=1e-6)


def test_block_influence_is_of_the_raw_layer_output():
    model = llama()
    tokens = torch.randint(1, 40, (2, 6))
    found = collect(model, [{"input_ids": tokens}], "block_influence").modules
    states = []
    handles = [
        layer.register_forward_hook(lambda m, a, o: states.append((a[0], o[0] if isinstance(o, tuple) else o)))
        for layer in model.model.layers
    ]
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    for index, (before, after) in enumerate(states):
        expected = 1 - F.cosine_similarity(before.double(), after.double(), dim=-1)
        assert float(found[f"model.layers.{index}"].block_influence) == pytest.approx(float(expected.mean()), rel=1e-4)


def test_mlp_rows_are_a_pure_function_of_ids():
    model = seeded(mlp, 0, 6, 5, 3)
    x, y = torch.randn(20, 6), torch.randint(0, 3, (20,))
    order = torch.randperm(20)
    one = collect(model, (np.arange(20), x, y), ("probs", "grad_norm"), batch=7).rows
    two = collect(model, (order.numpy(), x[order], y[order]), ("probs", "grad_norm"), batch=7).rows
    torch.testing.assert_close(one.grad_norm[order], two.grad_norm, rtol=1e-5, atol=1e-6)
