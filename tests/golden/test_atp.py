"""ATP of one gated feed-forward part: decisions, the forward pass with adapters, what is deleted, the proximal step, the budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.channels.atp import gate_of, lasso_norm, removed_slices
from prunus.channels.structural_lora import Adapted
from prunus.core.prunable import Group, Slot
from prunus.core.rng import Rng
from prunus.train.decisions import budget_gap, decide, shrunk, with_one

pytestmark = pytest.mark.golden("atp--mlp-decision")
NAMES = ("gate", "up", "down")


class Part(nn.Module):
    def __init__(self, case) -> None:
        super().__init__()
        for name in NAMES:
            weight = torch.from_numpy(case[f"W_{name}"])
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
            layer.weight.data.copy_(weight)
            self.add_module(name, layer)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


@pytest.fixture
def adapted(case):
    size = len(case["generator_logits"])
    index = np.arange(size)[:, None]
    slots = (
        Slot("gate.weight", 0, "writer", index),
        Slot("up.weight", 0, "writer", index),
        Slot("down.weight", 1, "reader", index),
    )
    group = Group("mlp", "channels", size, slots)
    rank = case["A_gate"].shape[0]
    made = Adapted(
        Part(case), {"mlp": group}, "kept_path", rank=rank, scale=case.value("lora_scaling"), rng=Rng(0, "atp")
    )
    for name in NAMES:
        made.parts[f"{name}.weight"].a.data = torch.from_numpy(case[f"A_{name}"].copy())
        made.parts[f"{name}.weight"].b.data = torch.from_numpy(case[f"B_{name}"].copy())
    return made


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours.detach()), theirs, rtol=1e-9, atol=1e-12)


def options(case):
    return {"tau": case.value("tau"), "bias": case.value("bias")}


def opened(case, adapted):
    decision = torch.from_numpy(case["decision"])
    for slot, part in adapted.slots(adapted.groups["mlp"]):
        part.opening = gate_of(slot, decision, part)
    return adapted.model


def kept(case):
    return {"mlp": torch.from_numpy(case["decision"]) > 0.5}


def test_decisions(case):
    logits = torch.from_numpy(case["generator_logits"].copy()).requires_grad_()
    soft, hard = decide(logits, torch.from_numpy(case["uniform_noise"]), **options(case))
    close(soft, case["soft"])
    close(hard, case["decision"])
    close(decide(logits, None, **options(case))[1], case["decision_no_noise"])
    (through,) = torch.autograd.grad(hard.sum(), logits, retain_graph=True)
    (straight,) = torch.autograd.grad(soft.sum(), logits)
    close(through, straight)
    none = torch.zeros_like(hard)
    assert with_one(none, logits).nonzero().flatten().tolist() == [int(logits.argmax())]
    assert with_one(hard, logits) is hard


def test_forward_with_adapters(case, adapted):
    x = torch.from_numpy(case["x"])
    close(opened(case, adapted)(x), case["y_lora_aware"])
    for part in adapted.parts.values():  # nothing goes: plain adapters
        part.opening = None
    lines = [
        torch.from_numpy(case[f"W_{n}"] + case.value("lora_scaling") * case[f"B_{n}"] @ case[f"A_{n}"]) for n in NAMES
    ]
    close(adapted.model(x), F.linear(F.silu(F.linear(x, lines[0])) * F.linear(x, lines[1]), lines[2]).numpy())


def cut(case, adapted):
    """The part after deletion: merged, and the channels that go taken out."""
    edits = {edit.parameter: torch.from_numpy(edit.value).double() for edit in adapted.merged()}
    stay = kept(case)["mlp"]
    x, gate, up = torch.from_numpy(case["x"]), edits["gate.weight"][stay], edits["up.weight"][stay]
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), edits["down.weight"][:, stay])


def test_deleted(case, adapted):
    opened(case, adapted)
    np.testing.assert_allclose(
        cut(case, adapted), case["y_pruned_with_all_adapters"], rtol=1e-4, atol=1e-4
    )  # edits are float32


def test_group_lasso_and_its_proximal_step(case, adapted):
    close(lasso_norm(adapted, kept(case)), case["group_lasso"])
    with torch.no_grad():
        for value, at in removed_slices(adapted, kept(case)):
            value[at] = shrunk(value[at], case.value("prox_step"))
    close(adapted.parts["gate.weight"].b, case["B_gate_after_prox"])
    close(adapted.parts["up.weight"].b, case["B_up_after_prox"])
    close(adapted.parts["down.weight"].a, case["A_down_after_prox"])
    with torch.no_grad():
        for value, at in removed_slices(adapted, kept(case)):
            before = value[at].clone()
            value[at] = shrunk(value[at], 1e6)
            assert not value[at].any() and torch.equal(shrunk(before, 0.0), before)


def test_without_slices_deletion_changes_nothing(case, adapted):
    with torch.no_grad():
        for value, at in removed_slices(adapted, kept(case)):
            value[at] = 0
    whole = opened(case, adapted)(torch.from_numpy(case["x"])).detach()
    np.testing.assert_allclose(cut(case, adapted), whole, rtol=1e-4, atol=1e-4)


def test_budget(case):
    per_unit = 3 * case["W_gate"].shape[1]
    total = per_unit * len(case["decision"])
    found = budget_gap(torch.tensor(per_unit * case["decision"].sum()), case.value("target_keep") * total)
    close(found, case["budget_loss"])
    assert float(budget_gap(torch.tensor(4.0), 4.0)) == 0
