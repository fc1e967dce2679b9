"""ONNX files of cut models compute what the cut models compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import prunus as px
from prunus.core.errors import BadInput

pytest.importorskip("onnxscript", reason="needs the extra onnx")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
X = torch.zeros(2, 1, 8, 8)


def small() -> nn.Module:
    model = px.open_model("prunus:tinycnn", weights="random")
    return px.plan(model, "l1", "50% macs", example=X).apply(model)


def test_the_file_holds_the_cut_model(tmp_path):
    model = small()
    assert px.to_onnx(model, X, tmp_path / "small.onnx") < 1e-4
    session = runtime.InferenceSession(str(tmp_path / "small.onnx"), providers=["CPUExecutionProvider"])
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(found), model.eval()(x), rtol=1e-4, atol=1e-4)


def test_a_file_that_differs_is_refused_and_removed(tmp_path):
    with pytest.raises(BadInput, match="differs"):
        px.to_onnx(small(), X, tmp_path / "small.onnx", tolerance=-1.0)
    assert not (tmp_path / "small.onnx").exists()
    with pytest.raises(BadInput, match=r"ends in .onnx"):
        px.to_onnx(small(), X, tmp_path / "small.bin")
