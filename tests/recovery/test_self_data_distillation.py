"""Self-data distillation on a tiny model: answers that are taken, what trains, zeros kept, models merged."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import prunus as px
from prunus.core.errors import BadInput, SplitError
from prunus.recovery.rewriting import rewritten, taught
from prunus.recovery.self_data_distillation import merged
from prunus.train.step import IGNORED

transformers = pytest.importorskip("transformers")
END = 256
PAIRS = [("2 + 2?", "It is 4."), ("3 + 4?", "It is 7."), ("Colour?", "Blue."), ("Empty?", " ")]


class Bytes:
    """A tokenizer of bytes, with one more token that ends a text."""

    eos_token_id = END

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return bytes(one for one in ids if one < END).decode(errors="replace")


def tiny(seed: int = 0) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=257, bos_token_id=END, eos_token_id=END, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.LlamaForCausalLM(config).eval()


def saying(*texts: str | None) -> Any:
    """A dense model that answers with these texts, one after the other; None never ends."""
    model, left = tiny(), list(texts)

    def generate(input_ids: torch.Tensor, attention_mask: torch.Tensor, max_new_tokens: int, **_: Any) -> torch.Tensor:
        assert attention_mask[:, -1].all(), "prompts end at the right"
        said = [left.pop(0) for _ in input_ids]
        rows = [[97] * max_new_tokens if text is None else [*text.encode(), END] for text in said]
        width = max(map(len, rows))
        return torch.cat([input_ids, torch.tensor([row + [END] * (width - len(row)) for row in rows])], 1)

    model.generate = generate
    return model


def test_answers_that_will_do_are_taken_and_counted():
    found, told = rewritten(saying("Four: 4", "Eight: 8", ""), PAIRS, Bytes(), check="number", batch=2)
    assert found == [("2 + 2?", "Four: 4"), ("3 + 4?", "It is 7."), ("Colour?", "Blue.")]
    assert told == {"pairs": 3, "dropped": 1, "truncated": 0, "empty": 1, "wrong": 1, "accepted": 1 / 3}
    found, told = rewritten(saying("Four", None, "Sky"), PAIRS, Bytes(), longest=5)
    assert [answer for _, answer in found] == ["Four", "It is 7.", "Sky"]
    assert told["truncated"] == 1 and told["accepted"] == 2 / 3
    with pytest.raises(BadInput, match="no pair"):
        rewritten(saying(), [("a", "")], Bytes())


def test_a_real_model_is_asked_and_padding_does_not_change_what_it_says():
    dense = tiny()
    dense.generation_config.eos_token_id = None
    alone, _ = rewritten(dense, PAIRS, Bytes(), longest=4, batch=1)
    together, told = rewritten(dense, PAIRS, Bytes(), longest=4, batch=3)
    assert alone == together and told["pairs"] == 3


def test_only_answers_have_labels():
    rows = taught(PAIRS[:3], Bytes(), batch=3, seed=0)[0]
    for ids, labels, real in zip(rows["input_ids"], rows["labels"], rows["attention_mask"]):
        said = Bytes().decode(ids[labels != IGNORED].tolist())
        assert said in [answer for _, answer in PAIRS] and ids[labels != IGNORED][-1] == END
        assert (labels[real == 0] == IGNORED).all()
    model, other = tiny(), {**rows, "input_ids": rows["input_ids"].clone()}
    loss = model(**rows).loss
    other["input_ids"][:, -1] = torch.where(rows["attention_mask"][:, -1] == 0, 5, other["input_ids"][:, -1])
    torch.testing.assert_close(model(**other).loss, loss)


def tuned(model: Any, **settings: Any) -> tuple[Any, dict[str, float]]:
    report: dict[str, float] = {}
    given = {"steps": 4, "lr": 0.01, "batch": 2, "rank": 4, "tokenizer": Bytes(), "report": report, **settings}
    return px.recover(model, data=PAIRS[:3], how="self_data_distillation", **given), report


def test_trained_on_the_rewritten_answers_and_merged():
    model = tiny()
    dense = saying("Four", "Seven", "Sky")
    found, report = tuned(model, teacher=dense)
    assert list(found.state_dict()) == list(model.state_dict()) and type(found.lm_head) is torch.nn.Linear
    assert report["accepted"] == 1 and report["steps"] == 4
    matrices = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert report["trainable"] == sum(4 * (m.in_features + m.out_features) for m in matrices)
    assert all(p.requires_grad for p in found.parameters())
    plain, _ = tuned(model, rewrite=False)
    assert not torch.equal(plain.lm_head.weight, found.lm_head.weight), "other answers, other weights"
    rows = taught([("2 + 2?", "Four")], Bytes(), batch=1, seed=0)[0]
    with torch.no_grad():
        assert found(**rows).loss < model(**rows).loss
    assert torch.equal(tuned(model, rewrite=False)[0].lm_head.weight, plain.lm_head.weight), "a function of the seed"


def test_zeros_stay_zeros():
    model = tiny()
    prunable = px.ModelPrunable(model, {"input_ids": torch.ones(1, 4, dtype=torch.long)})
    plan = px.plan(prunable, "magnitude", "50% weights", layers="blocks")
    sparse = plan.apply(model)
    found, report = tuned(sparse, rewrite=False, plan=plan)
    for name, kept in plan.groups.items():
        assert int(found.get_parameter(name).count_nonzero()) <= kept.count
        assert not torch.equal(found.get_parameter(name), sparse.get_parameter(name))
    assert report["lost_at_merge"] == 0


@pytest.mark.parametrize("space", ["weights", "delta"])
def test_two_sets_make_two_models_that_are_merged(space):
    model = tiny()
    found, report = tuned(model, rewrite=False, also=PAIRS[1:3], space=space)
    assert report["arcs"] + report["lines"] == len(list(model.parameters()))
    if space == "delta":
        assert report["arcs"] > 0
    first, _ = tuned(model, rewrite=False)
    assert not torch.equal(found.lm_head.weight, first.lm_head.weight)


def test_ends_of_a_merge():
    one, other, base = tiny(0), tiny(1), tiny(2)
    for t, wanted in ((0.0, one), (1.0, other)):
        for start in (None, base):
            mixed = copy.deepcopy(one)
            merged(mixed, other, t, start)
            for name, value in mixed.state_dict().items():
                torch.testing.assert_close(value, wanted.state_dict()[name])


def test_what_is_missing_is_said():
    for match, settings in (
        ("tokenizer", {"tokenizer": None}),
        ("dense", {}),
        ("space", {"rewrite": False, "space": "x"}),
    ):
        with pytest.raises(BadInput, match=match):
            tuned(tiny(), **settings)
    rows = px.Dataset((torch.zeros(2, 3).numpy(), torch.zeros(2).numpy()), role="test")
    with pytest.raises(SplitError):
        px.recover(tiny(), data=rows, how="self_data_distillation", tokenizer=Bytes(), rewrite=False)
