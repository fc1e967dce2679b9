"""Adapters of every task give one loss per row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunus.core.errors import BadInput
from prunus.signals.collect import collect
from prunus.train.loop import fit
from prunus.train.models import mlp, seeded
from prunus.train.step import (
    detection_step,
    infer_step,
    one_row,
    per_row_loss,
    plain,
    to_device,
    transformers_step,
    xy_step,
)


def test_pairs_and_triples():
    model = seeded(mlp, 0, 4, 3)
    x, y = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    step = xy_step(model, (np.array(["a", "b", "c", "d", "e"]), x, y))
    torch.testing.assert_close(step.loss, F.cross_entropy(model(x), y, reduction="none"))
    assert step.ids.tolist() == list("abcde")
    assert xy_step(model, (x, None)).loss is None
    regression = xy_step(model, (x, torch.zeros(5, 3)), loss_fn=lambda a, b: (a - b).square())
    assert regression.loss.shape == (5,)
    with pytest.raises(BadInput, match="one loss per row"):
        xy_step(model, (x, y), loss_fn=nn.CrossEntropyLoss())
    with pytest.raises(BadInput, match="step="):
        xy_step(model, (x,))


def test_soft_labels_and_tokens():
    logits = torch.randn(3, 4)
    soft = torch.rand(3, 4).softmax(1)
    torch.testing.assert_close(per_row_loss(logits, soft), -(soft * logits.log_softmax(1)).sum(1))
    tokens = torch.tensor([[1, -100], [2, 3], [-100, -100]])
    loss = per_row_loss(torch.randn(3, 2, 4), tokens)
    assert loss[2] == 0
    assert torch.isfinite(loss).all()


def test_masked_and_sequence_models_are_not_shifted():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
    )
    tokens = torch.randint(1, 30, (2, 6))
    masked = transformers.BertForMaskedLM(config).eval()
    torch.testing.assert_close(
        transformers_step(masked, {"input_ids": tokens[:1], "labels": tokens[:1]}).loss[0],
        masked(tokens[:1], labels=tokens[:1]).loss,
    )
    classifier = transformers.BertForSequenceClassification(config).eval()
    batch = {"ids": ["p", "q"], "input_ids": tokens, "labels": torch.tensor([2, 0])}
    step = transformers_step(classifier, batch)
    torch.testing.assert_close(step.loss.mean(), classifier(tokens, labels=batch["labels"]).loss)
    assert step.ids.tolist() == ["p", "q"]
    encoder = transformers.BertModel(config).eval()
    rows = collect(encoder, [{"input_ids": tokens}], "embedding").rows
    assert rows.embedding.shape == (2, 16)


def test_encoder_decoder():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=30, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0, pad_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    tokens, labels = torch.randint(1, 30, (1, 6)), torch.randint(1, 30, (1, 4))
    step = transformers_step(model, {"input_ids": tokens, "labels": labels})
    torch.testing.assert_close(step.loss[0], model(input_ids=tokens, labels=labels).loss)


class Detector(nn.Module):
    """The form of torchvision's detectors: lists in, a dict of summed losses out, in training mode only."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, images, targets=None):
        assert self.training
        features = [self.backbone(image[None]).mean((2, 3)) for image in images]
        noise = torch.rand(1)
        return {
            "boxes": sum((self.head(f) - t["boxes"].mean()).square().sum() for f, t in zip(features, targets))
            + noise * 0,
            "classes": torch.stack([f.sum() for f in features]).sum()[None],
        }


def test_detection_lists():
    model = Detector().eval()
    images = [torch.randn(3, 8, 8), torch.randn(3, 6, 7)]
    targets = [{"boxes": torch.rand(2, 4)}, {"boxes": torch.rand(1, 4)}]
    running = model.backbone[1].running_mean.clone()
    assert infer_step((images, targets)) is detection_step
    state = torch.get_rng_state()
    with pytest.warns(UserWarning, match="one backward pass"):  # images are passed alone, the rules need batches
        rows = collect(model, [(["a", "b"], images, targets)], ("loss", "embedding", "grad_norm")).rows
    assert rows.loss.shape == (2,)
    assert rows.embedding.shape == (2, 4)
    assert torch.equal(running, model.backbone[1].running_mean)
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training
    alone = detection_step(model, ([images[1]], [targets[1]])).loss
    torch.testing.assert_close(rows.loss[1], alone[0])


def test_batches_of_text_columns_train():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config)
    batches = [(np.arange(4), {"input_ids": torch.randint(0, 20, (4, 6)), "attention_mask": torch.ones(4, 6)})]
    history = fit(model, batches, epochs=8, optimizer="adamw", lr=0.01)
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]


def test_helpers_of_batches():
    batch = {"x": torch.arange(6).view(3, 2), "ids": ["a", "b", "c"], "n": 3}
    assert one_row(batch, 1, 3)["ids"] == ["b"]
    assert one_row(batch, 1, 3)["x"].tolist() == [[2, 3]]
    assert plain((np.array([1]), {"x": 2})) == {"ids": np.array([1]), "x": 2}
    moved = to_device((np.array([1]), [torch.zeros(1)]), torch.device("cpu"))
    assert isinstance(moved, tuple)
    with pytest.raises(BadInput, match="step=f"):
        infer_step(3)


def test_losses_of_a_detector_by_task_add_up():
    model = Detector().eval()
    step = detection_step(model, ([torch.randn(3, 8, 8)] * 2, [{"boxes": torch.rand(2, 4)}] * 2))
    assert step.losses and step.loss is not None
    torch.testing.assert_close(sum(step.losses.values()), step.loss)
