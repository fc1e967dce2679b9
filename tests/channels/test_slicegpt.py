"""SliceGPT on tiny language models: an exact turn, an honest count, and what the cut model is of the dense one."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import nn

import prunus as px
from channels.lms import EXAMPLE, FAMILIES, cached, make, prunable, texts, uncached
from prunus.core.edits import Rotate, Transform
from prunus.core.errors import BadInput
from prunus.graph.stream import affine_of, stream_of
from prunus.maths.rotation import rotation

transformers = pytest.importorskip("transformers")
BOTH = pytest.mark.parametrize("rotations", ["layer", "shared"])
EVERY = pytest.mark.parametrize("family", FAMILIES)


def planned(model, budget="75% channels", **settings) -> px.Plan:
    return px.plan(model, "slicegpt", budget, data=texts(), **settings)


@EVERY
@BOTH
def test_cut_is_the_dense_model_with_its_stream_projected(family, rotations):
    """Norms, which would divide by d where the cut ones do by k, see the projected stream; nothing else is changed."""
    dense = prunable(family)
    plan = planned(dense, "90% params" if family in ("phi3", "opt") else "75% channels", rotations=rotations)
    small = dense.apply(plan)
    assert plan.planned["params"] == sum(p.numel() for p in small.parameters())
    turns, blocks = projections(plan)
    ids = texts()[0]["input_ids"]
    with ExitStack() as stack:
        for norm in stream_of(dense.graph).norms:
            turn = turns[next((at for at, block in enumerate(blocks) if norm.path.startswith(f"{block}.")), -1)]
            hook = dense.model.get_submodule(norm.path).register_forward_pre_hook(
                lambda m, args, p=turn: (args[0] @ p,)
            )
            stack.callback(hook.remove)
        for at, block in enumerate(blocks):
            both = turns[at] @ turns[at + 1]
            hook = dense.model.get_submodule(block).register_forward_hook(lambda m, args, out, p=both: through(out, p))
            stack.callback(hook.remove)
        expected = uncached(dense.model, ids)
    found = uncached(small, ids)
    assert (found - expected).abs().max() < 2e-4 * expected.abs().max()
    assert (found - uncached(dense.model, ids)).abs().max() > 1e-3 * expected.abs().max()
    torch.testing.assert_close(cached(small, ids), found, rtol=1e-4, atol=1e-4)


def through(out, matrix):
    return (out[0] @ matrix, *out[1:]) if isinstance(out, tuple) else out @ matrix


def projections(plan):
    """The projection to what stays of every rotation of a plan, and its blocks."""
    width = plan.provenance["width"]
    arrays = {id(edit.q): edit.q for edit in plan.edits if isinstance(edit, Rotate)}
    blocks = [edit.module for edit in plan.edits if isinstance(edit, Transform)]
    order = {edit.parameter: edit.q for edit in plan.edits if isinstance(edit, Rotate)}
    firsts = [next(q for name, q in order.items() if name.startswith(f"{block}.")) for block in blocks]
    last = next(q for key, q in arrays.items() if all(q is not one for one in firsts))
    kept = [torch.from_numpy(q[:width]) for q in (*firsts, last)]
    return [q.T @ q for q in kept], blocks


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_files_and_generation(family, tmp_path):
    dense = prunable(family)
    plan = planned(dense)
    small = dense.apply(plan)
    px.save(small, plan, tmp_path)
    again = px.load(tmp_path, like=lambda: make(family))
    ids = texts()[0]["input_ids"]
    torch.testing.assert_close(uncached(again, ids), uncached(small, ids), rtol=0, atol=0)
    texts_of = [
        m.generate(ids[:2], max_new_tokens=6, do_sample=False, use_cache=c) for m, c in ((small, True), (again, False))
    ]
    assert torch.equal(*texts_of)


def test_one_shared_rotation_loads_with_stock_from_pretrained(tmp_path):
    dense = prunable("llama")
    plan = planned(dense, rotations="shared")
    small = dense.apply(plan)
    px.save(small, plan, tmp_path)
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (
        stock.config.hidden_size == 24
        and not stock.config.tie_word_embeddings
        and dense.model.config.tie_word_embeddings
    )
    torch.testing.assert_close(uncached(stock, EXAMPLE["input_ids"]), uncached(small, EXAMPLE["input_ids"]))


def test_an_uncut_turn_is_exact_in_float64():
    """gpt2's norms compute in float64, so nothing hides what the turn leaves wrong."""
    plan = planned(px.ModelPrunable(make("gpt2").double(), EXAMPLE), "31 channels")
    assert plan.provenance["difference"] < 1e-12


@pytest.mark.parametrize("basis", ["random", "axes"])
def test_principal_axes_keep_the_most_energy(basis):
    kept = [captured(prunable("llama"), basis=name) for name in ("pca", basis)]
    assert kept[0] > kept[1]


def captured(dense, **settings) -> float:
    """Energy of the last norm's input that a plan keeps."""
    plan = planned(dense, rotations="shared", **settings)
    (q,) = {id(edit.q): edit.q for edit in plan.edits if isinstance(edit, Rotate)}.values()
    seen = []
    hook = dense.model.model.norm.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    for batch in texts():
        uncached(dense.model, batch["input_ids"])
    hook.remove()
    return float((torch.cat(seen) @ torch.from_numpy(q[: plan.provenance["width"]]).T).square().sum())


@pytest.mark.parametrize("size", [7, 8])
def test_a_layer_norm_of_what_is_kept(size):
    """The first entries of a turned x have the mean and the spread of the part of x that stays."""
    x = torch.randn(40, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 2
    for keep in range(2, size + 1):
        q = rotation(x.T @ x, keep, layer_norm=True)
        torch.testing.assert_close(q.T @ q, torch.eye(size, dtype=torch.float64))
        short, back = x @ q[:, :keep], x @ q[:, :keep] @ q[:, :keep].T
        torch.testing.assert_close(
            short - short.mean(1, keepdim=True), (back - back.mean(1, keepdim=True)) @ q[:, :keep]
        )
    with pytest.raises(BadInput, match="axes can't stay"):
        rotation(x.T @ x, 1, layer_norm=True)


class Doubled(nn.RMSNorm):
    """Its gain is not its weight."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_norms_are_measured_not_named():
    for norm, offset, centres in ((nn.RMSNorm(7), 0, False), (nn.LayerNorm(8), 0, True)):
        nn.init.normal_(norm.weight)
        facts = affine_of(norm, "norm")
        assert (facts.offset, facts.centres) == (offset, centres)
        np.testing.assert_allclose(facts.gain, norm.weight.detach())
    assert affine_of(make("gemma").model.norm, "norm").offset == 1
    doubled = Doubled(8)
    nn.init.normal_(doubled.weight)
    with pytest.raises(BadInput, match="can't be folded"):
        affine_of(doubled, "norm")


def test_what_cannot_be_turned_is_refused():
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    bert = transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).eval()
    with pytest.raises(BadInput, match=r"stream|rotated"):
        px.plan(bert, "slicegpt", "75% channels", data=texts(), example=EXAMPLE)
    plain, rows = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), (torch.zeros(2, 4), torch.zeros(2).long())
    with pytest.raises(BadInput, match="stream_moment"):
        px.plan(plain, "slicegpt", "50% channels", data=rows)
    with pytest.raises(BadInput, match="mode='cut'"):
        prunable("llama").apply(planned(prunable("llama")), mode="mask")


def test_trained_models_leave_their_plan_alone():
    plan = planned(prunable("llama"))
    before = plan.hash()
    small = prunable("llama").apply(plan)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(1)
    assert plan.hash() == before
