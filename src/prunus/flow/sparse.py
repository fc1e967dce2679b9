"""`px.to_sparse`: linear layers with many zeros as compressed sparse rows, where that measures faster; N:M patterns by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.errors import BadInput
from prunus.core.plan import Plan
from prunus.graph.record import named_tensors, untouched
from prunus.graph.trace import run, tensors_in
from prunus.measure.latency import in_turns
from prunus.measure.stats import ratio_interval
from prunus.prunables.csr import CsrLinear
from prunus.prunables.model import as_lines
from prunus.train.copies import copied

SIZES = (2, 4, 8, 16, 32)  # M of the patterns that are looked for


def to_sparse(
    model: nn.Module,
    example: Any,
    *,
    density: float = 0.3,
    repeats: int = 30,
    threads: int = 1,
    tolerance: float = 1e-4,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """A copy for inference on this machine's CPU whose linear layers are sparse where that is faster.

    Args:
        model: after its masks were applied; left as it is.
        example: what it is called with. The layers are timed on the inputs that it gives them: a batch of the size that will be used.
        density: layers with a larger share of nonzero weights are not tried.
        repeats: timed runs of each layer, dense and sparse in turns.
        threads: torch's while timing.
        tolerance: largest difference of the model's outputs that passes, relative to the largest output.

    Returns:
        The copy, and a dict for each layer that was tried: module, density, batch (rows of its input), dense_ms, sparse_ms, ratio
        (dense / sparse) with its 95 % interval, sparse (whether it was replaced), and why in words. Only a layer whose interval
        lies above 1 is replaced; the others stay dense, and their zeros cost what other numbers cost.

    Raises:
        BadInput: no linear layer has so few nonzero weights, or the sparse model computes something else.
    """
    small = copied(model).eval()
    found = {name: cast("nn.Linear", module) for name, module in small.named_modules() if _thin(module, density)}
    if not found:
        raise BadInput(
            f"no linear layer in float32 has {100 * density:g} % or fewer nonzero weights: there is nothing to gain"
        )
    inputs = _inputs(small, found, example)
    rows: list[dict[str, Any]] = []
    for name, linear in found.items():
        if name not in inputs:
            continue
        row, sparse = _tried(name, linear, inputs[name], repeats, threads)
        rows.append(row)
        if row["sparse"]:
            parent, _, last = name.rpartition(".")
            setattr(small.get_submodule(parent), last, sparse)
    _check(model, small, example, tolerance)
    return small, rows


def _thin(module: nn.Module, density: float) -> bool:
    if type(module) is not nn.Linear or module.weight.dtype not in (torch.float32, torch.float64):
        return False
    return int(module.weight.detach().count_nonzero()) <= density * module.weight.numel()


def _inputs(model: nn.Module, layers: Mapping[str, nn.Module], example: Any) -> dict[str, Tensor]:
    """What each layer reads of the example, the last time it runs."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, args: seen.__setitem__(name, args[0].detach())

    handles = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            run(model, example)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _tried(name: str, linear: nn.Linear, x: Tensor, repeats: int, threads: int) -> tuple[dict[str, Any], CsrLinear]:
    sparse = CsrLinear(linear)
    seconds = in_turns([linear, sparse], lambda layer: layer(x), repeats, threads, 3)
    ratio, interval = ratio_interval(seconds[0], seconds[1])
    words = "faster as sparse rows" if interval[0] > 1 else "not faster as sparse rows: stays dense"
    row: dict[str, Any] = {"module": name, "density": len(sparse.values) / linear.weight.numel()}
    row |= {"batch": x.numel() // x.shape[-1], "dense_ms": 1000 * float(np.median(seconds[0]))}
    row |= {"sparse_ms": 1000 * float(np.median(seconds[1])), "ratio": ratio, "interval": interval}
    return {**row, "sparse": interval[0] > 1, "words": words}, sparse


def _check(model: nn.Module, small: nn.Module, example: Any, tolerance: float) -> None:
    with untouched(model), torch.inference_mode():
        model.eval()
        pairs = zip(list(tensors_in(run(model, example))), list(tensors_in(run(small, example))))
    for dense, sparse in pairs:
        worst = float((dense.double() - sparse.double()).abs().max() / dense.double().abs().max().clamp(min=1e-12))
        if not worst <= tolerance:
            raise BadInput(f"the sparse model differs by {worst:.3g} of the largest output, more than {tolerance:g}")


def patterns(plan: Plan, model: nn.Module) -> dict[str, str]:
    """Matrices whose masks keep exactly N of every M consecutive inputs: name -> `2:4`, with the smallest M that holds.

    Args:
        plan: over weights.
        model: that it was made for, or what it was applied to.

    Returns:
        Nothing for a matrix that is whole, empty, or follows no pattern.
    """
    found: dict[str, str] = {}
    for name, kept in plan.groups.items():
        lines = as_lines(model, name)
        taps = int(np.prod(named_tensors(model)[name].shape[2:]))
        pattern = nm_of(kept.mask().reshape(lines.shape), taps)
        if pattern is not None:
            found[name] = f"{pattern[0]}:{pattern[1]}"
    return found


def nm_of(mask: np.ndarray, taps: int = 1) -> tuple[int, int] | None:
    """(N, M) of a mask `[outputs, inputs * taps]`, or None."""
    channels = mask.shape[1] // taps
    lines = mask.reshape(len(mask), channels, taps).swapaxes(1, 2).reshape(-1, channels)
    for size in SIZES:
        if channels % size:
            continue
        counts = lines.reshape(-1, size).sum(1)
        if 0 < counts[0] < size and bool((counts == counts[0]).all()):
            return int(counts[0]), size
    return None
