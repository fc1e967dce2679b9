"""Rows without labels, or with class numbers nobody has: what is said, and where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import prunus as px
from prunus.core import registry
from prunus.core.errors import BadInput
from prunus.flow.labelled import unlabelled
from prunus.signals.recorder import Recorder

STATS = ("gradient_variance", "gradient_std")
X = np.random.RandomState(0).randn(8, 4).astype(np.float32)


def test_what_does_without_labels_is_named_and_works():
    names = unlabelled().split(", ")
    assert {"entropy", "prototypes", "deepfool", "random"} <= set(names)
    assert not {"el2n", "aum", "dual", "vog", "label_quality", "loss", "grand", "forgetting"} & set(names)
    data, model = px.Dataset(X), torch.nn.Linear(4, 3)
    for name in names:
        options = {"prototypes": {"clusters": 2}, "feature_mapping": {"clusters": 2, "target": X}}.get(name, {})
        assert len(px.score(data, name, model=model, **options).values["rows"]) == 8


@pytest.mark.parametrize("method", ["el2n", "margin", "dual", "vog", "label_quality", "forgetting"])
def test_a_labelled_method_names_the_others(method):
    fit = px.Fit(lambda: torch.nn.Linear(4, 3), steps=2)
    with pytest.raises(BadInput, match=r"needs labels, and .* has none.*deepfool, entropy"):
        px.score(px.Dataset(X), method, fit=fit)
    if "labels" in registry.find(method, unit="rows").needs:
        arrays = dict.fromkeys(("embedding", "probs"), np.full((8, 2), 0.5)) | dict.fromkeys(STATS, np.ones(8))
        with pytest.raises(BadInput, match="needs labels"):
            px.score(px.Dataset(X), method, signals=px.Signals(**arrays))


def test_class_numbers_that_the_model_lacks_are_named_by_row():
    labels = np.array([0, 1, 2, 0, 1, 5, 0, -1])
    data = px.Dataset((X, labels), ids=np.array(list("abcdefgh")))
    fit = px.Fit(lambda: torch.nn.Linear(4, 3), epochs=1, settings={"progress": False})
    with pytest.raises(BadInput, match=r"labels \[.*5.*\] of rows \[.*'f'.*\] are not in 0..2"):
        px.score(data, "forgetting", fit=fit)
    with pytest.raises(BadInput, match=r"labels \[-1\] of ids \['h'\] in .* are not among its classes"):
        px.score(data, "label_quality", fit=fit)
    recorder = Recorder(data, "aum")
    recorder.batch(data.ids, logits=torch.zeros(8, 3))
    with pytest.raises(BadInput, match=r"labels \[5, -1\] of ids \['f', 'h'\] are not in 0..2"):
        recorder.end_epoch()
