"""Rules on a trained model whose true foreground is known (`benchmarks/token_testbed.py --bed demo` trains it)."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from prunus.core.errors import BadInput, SplitError
from prunus.core.rng import torch_rng
from prunus.measure.token_rules import compare_rules
from prunus.prunables.dataset import Dataset
from prunus.tokens.gate import gates
from prunus.tokens.select import keep_mask
from prunus.train.canvas import Canvas, digits, foreground
from prunus.train.models import TinyViT

pytest.importorskip("sklearn")
ASSET = Path(__file__).parent / "assets" / "digits-vit.safetensors"


@pytest.fixture(scope="module")
def bed():
    model = TinyViT(32, 4, 1, dim=48, depth=2)
    model.load_state_dict(load_file(ASSET))
    _, _, x, y = digits(12)
    canvases, alone = Canvas(noise=0.1, step=4).place(x, torch_rng(0, "test canvas"))
    return model.eval(), canvases, y, foreground(alone, 4)


def test_cls_attention_beats_its_controls_and_finds_the_digit(bed):
    model, canvases, y, front = bed

    def on_digit(net):
        found = [keep_mask(gate.kept, gate.incoming) for gate in gates(net).values()]
        return {"precision": float((found[0] & front).sum() / found[0].sum())} if found else {}

    rules = ("fastervlm", "grid", "lowest")
    lines = compare_rules(model, (canvases, y), ["8 tokens"], places=(0,), rules=rules, batch=397, also=on_digit)
    by_rule = {line.rule: line for line in lines}
    dense, cls, random = (by_rule[name].accuracy for name in ("dense", "fastervlm", "random"))
    assert dense > 0.85
    assert cls >= dense - 0.05
    assert cls >= random + 0.05
    assert by_rule["fastervlm"].word == "better"
    assert by_rule["lowest"].word == "worse"
    assert by_rule["fastervlm"].also["precision"] > 3 * float(front.float().mean())
    assert by_rule["lowest"].also["precision"] < float(front.float().mean())
    assert by_rule["fastervlm"].block_macs < 0.6
    assert by_rule["downsample"].count == 4


def test_choosing_a_rule_never_reads_test_rows(bed):
    model, canvases, y, _ = bed
    with pytest.raises(SplitError, match="token rule"):
        compare_rules(model, Dataset((canvases, y), role="test"), ["8 tokens"])
    with pytest.raises(BadInput, match="2 seeds"):
        compare_rules(model, (canvases, y), ["8 tokens"], seeds=(0,))
