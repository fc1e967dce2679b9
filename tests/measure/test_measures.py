import math

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from prunus.core.errors import BadInput, IdMismatch, NonFinite
from prunus.measure.accuracy import accuracy
from prunus.measure.latency import latency, words
from prunus.measure.params import params
from prunus.measure.perplexity import perplexity, token_ids
from prunus.measure.predict import predict
from prunus.measure.size import safetensors_bytes, size
from prunus.prunables.dataset import Dataset


class Echo(nn.Module):
    """Its logits are its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 0, 0, 1])]
    return logits, torch.tensor([0, 1, 2, 0, 1, 1])


def test_accuracy_worst_class_and_each_class():
    found = accuracy(Echo(), rows(), per_class=True, batch=4)
    assert found["accuracy"][0] == 5 / 6
    assert found["worst_class_accuracy"][0] == found["accuracy@1"][0] == pytest.approx(2 / 3)
    assert found["accuracy"][1][0] < 5 / 6 < found["accuracy"][1][1]
    assert found.facts == {"rows": 6}


def test_mode_is_restored_and_gradients_are_off():
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(3, 3)).train()
    model[1].eval()
    predict(model, rows())
    assert model.training
    assert model[0].training
    assert not model[1].training


def test_test_reads_are_counted_and_fit_rows_are_labelled():
    x, y = rows()
    data = Dataset((x, y), role="test")
    assert accuracy(Echo(), data).facts["test_passes"] == 1
    found = accuracy(Echo(), data)
    assert (found.facts["test_passes"], found.facts["role"]) == (2, "test")
    assert "warning" in accuracy(Echo(), Dataset((x, y), role="fit")).facts
    (row, *_) = found.rows("dense", seed=1)
    assert (row.what, row.metric, row.seed) == ("dense", "accuracy", 1)
    assert "test_passes=2" in row.note


def test_predictions_pair_by_id():
    x, y = rows()
    ids = np.arange(6)
    one, other = predict(Echo(), (ids, x, y)), predict(Echo(), (ids[::-1].copy(), x.flip(0), y.flip(0)))
    assert np.array_equal(one.same_rows(other).predicted, one.predicted)
    with pytest.raises(IdMismatch):
        one.same_rows(predict(Echo(), (ids + 1, x, y)))


def test_bad_logits_are_named():
    x, y = rows()
    x = x.clone()
    x[4, 0] = float("nan")
    with pytest.raises(NonFinite, match=r"\[4\]"):
        accuracy(Echo(), (x, y))
    with pytest.raises(BadInput, match="logits"):
        accuracy(Echo(), (rows()[0], torch.eye(3)[y]))
    with pytest.raises(BadInput, match="no rows"):
        accuracy(Echo(), (x[:0], y[:0]))


def test_params_count_ties_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    model[0].weight.data[0] = 0
    assert params(model) == {"params": (16.0, None), "nonzero_params": (12.0, None)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_size_is_that_of_the_file(dtype, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Linear(7, 3)).to(dtype)
    data = save(model.state_dict())
    assert safetensors_bytes(model.state_dict()) == len(data)
    (tmp_path / "model.safetensors").write_bytes(data)
    assert size(None, path=str(tmp_path))["bytes"][0] == len(data)
    assert size(model)["bytes"][0] == len(data)
    with pytest.raises(BadInput, match="not exist"):
        size(None, path=str(tmp_path / "nothing"))


class Bigram(nn.Module):
    """Logits of the next token from a table."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table[ids]


def test_perplexity_by_definition_and_kl_to_dense():
    torch.manual_seed(0)
    model, dense = Bigram(torch.randn(5, 5)), Bigram(torch.randn(5, 5))
    ids = torch.randint(0, 5, (103,))
    found = perplexity(model, ids, window=10, tokens=95, dense=dense, batch=3)
    windows = ids[:90].view(9, 10)
    log_q, log_p = (m.table.detach().log_softmax(-1)[windows[:, :-1]] for m in (model, dense))
    loss = -log_q.detach().gather(-1, windows[:, 1:, None]).mean()
    assert found["perplexity"][0] == pytest.approx(math.exp(loss), rel=1e-6)
    assert found["kl_to_dense"][0] == pytest.approx(float((log_p.exp() * (log_p - log_q)).sum(-1).mean()), rel=1e-5)
    assert found["top1_agreement"][0] == pytest.approx(
        float((log_q.argmax(-1) == log_p.argmax(-1)).float().mean().detach())
    )
    assert found["perplexity"][1][0] < found["perplexity"][0] < found["perplexity"][1][1]
    assert found.facts["tokens"] == 90
    assert found.facts["window"] == 10
    assert found.facts["dtype"] == "float32"
    assert perplexity(model, ids, window=10).facts["data_hash"] != found.facts["data_hash"]


def test_a_model_agrees_with_itself():
    model = Bigram(torch.randn(5, 5))
    found = perplexity(model, torch.arange(20) % 5, window=10, dense=model)
    assert found["kl_to_dense"][0] == pytest.approx(0, abs=1e-6)
    assert found["top1_agreement"][0] == 1


def test_perplexity_refuses_what_makes_no_window():
    model = Bigram(torch.randn(5, 5))
    for window in (1, 30):
        with pytest.raises(BadInput, match="no window"):
            perplexity(model, [1, 2, 3], window=window)
    with pytest.raises(BadInput, match="tokenizer"):
        token_ids("text")
    with pytest.raises(NonFinite):
        perplexity(Bigram(torch.full((5, 5), float("nan"))), [1, 2, 3, 4], window=2)


def test_quick_latency_says_what_it_is():
    found = latency(Echo(), rows(), dense=Echo(), mode="quick", repeats=6, batch=2)
    assert set(found) == {"ms", "dense_ms", "time_ratio"}
    assert "no claim" in found.facts["words"]
    assert found.facts["timing"] == "quick"


def test_fresh_latency_needs_twenty_repeats():
    with pytest.raises(BadInput, match="20 repeats"):
        latency(Echo(), rows(), repeats=5)


def test_fresh_latency_runs_in_other_processes():
    small, large = nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 1024), nn.Linear(1024, 2048), nn.Linear(2048, 2))
    found = latency(small, rows(), dense=large, batch=6, processes=1)
    assert found.facts["repeats"] == 20
    assert found.facts["timing"] == "fresh"
    assert found["time_ratio"][1][0] > 1
    assert found.facts["words"] == "speed-up"
    assert not small.weight.is_shared()


def test_words_follow_the_interval():
    assert words((1.01, 1.2), "fresh") == "speed-up"
    assert words((0.8, 0.9), "fresh") == "slower"
    assert "MAC ratio" in words((0.9, 1.1), "fresh")


def test_perplexity_and_recovery_of_a_transformers_language_model():
    transformers = pytest.importorskip("transformers")
    from prunus.recovery.distill import distill
    from prunus.recovery.finetune import finetune

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 30,
    }
    dense, model = (transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval() for _ in range(2))
    ids = torch.arange(120) % 5
    before = perplexity(model, ids, window=12, dense=dense, batch=4)
    loss = dense(input_ids=ids.view(10, 12), labels=ids.view(10, 12)).loss
    assert perplexity(dense, ids, window=12)["token_loss"][0] == pytest.approx(float(loss.detach()), rel=1e-5)
    batches = [{"input_ids": part} for part in ids.view(10, 12).split(5)]
    distill(model, batches, teacher=dense, steps=10, optimizer="adamw", lr=0.01, alpha=1.0)
    taught = perplexity(model, ids, window=12, dense=dense)
    assert taught["kl_to_dense"][0] < before["kl_to_dense"][0]
    finetune(model, batches, steps=10, optimizer="adamw", lr=0.01, norms_only=True)
    assert perplexity(model, ids, window=12)["perplexity"][0] < taught["perplexity"][0]
