"""`px.to_onnx`: a model as an ONNX file, checked in onnxruntime: the file computes what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunus.core.errors import BadInput, require
from prunus.core.rng import Rng
from prunus.graph.record import untouched
from prunus.graph.trace import run, tensors_in
from prunus.prunables.example import drawn_like


def to_onnx(model: nn.Module, example: Any, path: str | Path, *, tolerance: float = 1e-3) -> float:
    """Write an ONNX file and run it beside the model.

    Args:
        model: any, also one that was cut; exported in evaluation mode and left as it is.
        example: a tensor, a tuple of arguments or a dict of keywords; its shapes are those of the file.
        path: ends in .onnx.
        tolerance: largest difference that passes, relative to the largest output.

    Returns:
        The largest difference between onnxruntime and torch, relative to the largest output, on random inputs.

    Raises:
        MissingExtra: without the extra `onnx`.
        BadInput: the path, a model that torch.onnx can't export, or a file that computes something else (it is removed).
    """
    require("onnxscript", "onnx")
    runtime = require("onnxruntime", "onnx")
    path = Path(path)
    if path.suffix != ".onnx":
        raise BadInput(f"{path}: the name of an ONNX file ends in .onnx")
    keywords = dict(example) if isinstance(example, Mapping) else {}
    arguments = () if keywords else example if isinstance(example, tuple) else (example,)
    inputs = drawn_like(keywords or tuple(arguments), model, Rng(0, "onnx"))
    with untouched(model), torch.no_grad():
        model.eval()
        try:
            program = torch.onnx.export(
                model, () if keywords else inputs, kwargs=inputs if keywords else None, dynamo=True, verbose=False
            )
        except Exception as error:  # the exporter raises its own kinds, which are not public
            first = (str(error).strip().splitlines() or [""])[0]
            raise BadInput(
                f"{type(model).__name__} can't be exported to ONNX: {type(error).__name__}: {first}"
            ) from error
        if program is None:
            raise BadInput(f"{type(model).__name__} can't be exported to ONNX: the exporter gave no program")
        program.save(str(path))
        expected = list(tensors_in(run(model, inputs)))
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, dict(zip(names, [tensor.numpy() for tensor in tensors_in(inputs)])))
    worst = max((_distance(torch.as_tensor(a), b) for a, b in zip(found, expected)), default=0.0)
    if len(found) < len(expected) or not worst <= tolerance:
        path.unlink()
        raise BadInput(
            f"the ONNX file differs from the model by {worst:.3g} of its largest output, more than {tolerance:g}"
        )
    return worst


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    a, b = a.double(), b.double()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) if b.numel() else 0.0
