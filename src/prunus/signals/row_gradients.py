"""Which factors a module's call gives: rules by layer type, and `torch.func` for everything else.

A rule takes the call's inputs and the gradient at its output, and names the parameters it covers. Normalisation layers
are in evaluation mode: batch statistics would mix rows, and a single row would have no gradient of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.signals.factors import HELD, Convolution, Dense, Factor, Outer
from prunus.signals.scan import transposed


@dataclass
class Call:
    """One call of a module in the forward pass of B rows.

    Attributes:
        module: the module.
        args, kwargs: what it was called with.
        versions: of the tensors in args, to see writes in place.
        rows: B.
        names: parameters this call answers for, relative to the module.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    versions: tuple[int, ...]
    rows: int
    names: tuple[str, ...]


def factors(call: Call, delta: Tensor) -> Mapping[str, Factor]:
    """Parameter name -> its factor, for the parameters the call answers for.

    Args:
        call: the call.
        delta: gradient of the summed loss at its output.
    """
    rule = _rule(call.module)
    if rule is None or call.kwargs or not isinstance(call.args[0], Tensor):
        return _by_func(call, delta)
    found = rule(call.module, call.args[0].detach(), delta, call.rows)
    return {name: factor for name, factor in found.items() if name in call.names}


Rule = Callable[[Any, Tensor, Tensor, int], Mapping[str, Factor]]


def _rule(module: nn.Module) -> Rule | None:
    if isinstance(module, nn.Embedding):
        return None if module.scale_grad_by_freq or module.sparse else _embedding
    if transposed(module):
        return _transposed_linear
    for kind, rule in RULES.items():
        if isinstance(module, kind):
            return rule
    return None


def by_row(x: Tensor, rows: int, last: int = 1) -> Tensor:
    """`[B, tokens, last dims]`: rows are outermost also where a model folds windows or tokens into the batch."""
    kept = x.shape[x.dim() - last :]
    return x.reshape(rows, -1, *kept)


def _linear(module: nn.Linear, x: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    left = by_row(delta, rows)
    return {"weight": Outer(left, by_row(x, rows), module.out_features), "bias": Dense(left.sum(1))}


def _transposed_linear(module: Any, x: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    right = by_row(delta, rows)
    return {"weight": Outer(by_row(x, rows), right, x.shape[-1]), "bias": Dense(right.sum(1))}


def _embedding(module: nn.Embedding, x: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    ids = x.expand(rows, *x.shape[1:]).reshape(rows, -1)
    right = by_row(delta, rows)
    if module.padding_idx is not None:
        right = right * (ids != module.padding_idx).unsqueeze(2)
    return {"weight": Outer(ids, right, module.num_embeddings)}


def _convolution(module: Any, x: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    if len(x) != rows:
        raise NotImplementedError("a convolution that folds rows")
    return {"weight": Convolution(module, x, delta), "bias": Dense(delta.flatten(2).sum(2))}


def _batch_norm(module: Any, x: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    if module.running_mean is None:
        raise NotImplementedError("batch statistics in evaluation mode")
    shape = (1, -1, *(1,) * (x.dim() - 2))
    normal = (x - module.running_mean.view(shape)) * (module.running_var + module.eps).rsqrt().view(shape)
    return _per_channel(normal, delta, rows)


def _group_norm(module: nn.GroupNorm, x: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    return _per_channel(F.group_norm(x, module.num_groups, None, None, module.eps), delta, rows)


def _layer_norm(module: nn.LayerNorm, x: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    normal = F.layer_norm(x, module.normalized_shape, None, None, module.eps)
    return _per_last(normal, delta, rows, len(module.normalized_shape))


def _rms_norm(module: nn.RMSNorm, x: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    normal = F.rms_norm(x, module.normalized_shape, None, module.eps)
    return _per_last(normal, delta, rows, len(module.normalized_shape))


def _per_channel(normal: Tensor, delta: Tensor, rows: int) -> Mapping[str, Factor]:
    channels = delta.shape[1]
    scale, shift = ((normal * delta), delta)
    sums = [part.reshape(rows, -1, channels, part[0, 0].numel()).sum((1, 3)) for part in (scale, shift)]
    return {"weight": Dense(sums[0]), "bias": Dense(sums[1])}


def _per_last(normal: Tensor, delta: Tensor, rows: int, last: int) -> Mapping[str, Factor]:
    sums = [by_row(part, rows, last).sum(1).flatten(1) for part in (normal * delta, delta)]
    return {"weight": Dense(sums[0]), "bias": Dense(sums[1])}


RULES: dict[type[nn.Module] | tuple[type[nn.Module], ...], Rule] = {
    nn.Linear: _linear,
    (nn.Conv1d, nn.Conv2d): _convolution,
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm): _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
}


def _by_func(call: Call, delta: Tensor) -> Mapping[str, Factor]:
    """Row by row through `torch.func.vjp`, vectorised by vmap where the module allows it."""
    parameters = {name: call.module.get_parameter(name).detach() for name in call.names}
    size = sum(parameter.numel() for parameter in parameters.values())
    at = 1 if isinstance(call.module, nn.MultiheadAttention) and not call.module.batch_first else 0
    chunk = max(1, HELD // max(size, 1))
    parts: list[dict[str, Tensor]] = []
    for start in range(0, call.rows, chunk):
        rows = range(start, min(start + chunk, call.rows))
        try:
            parts.append(_vmapped(call, delta, parameters, rows, at))
        except (RuntimeError, NotImplementedError, ValueError):
            parts.append(_looped(call, delta, parameters, rows, at))
    return {name: Dense(torch.cat([part[name].flatten(1) for part in parts])) for name in parameters}


def _pull(
    call: Call, parameters: dict[str, Tensor], inputs: list[Tensor], delta: Tensor, places: list[Any], at: int
) -> dict[str, Tensor]:
    """Gradient of one row: vjp of the module at its parameters. `inputs` lack the row axis; it comes back as 1."""

    def output(values: dict[str, Tensor]) -> Tensor:
        args, kwargs = list(call.args), dict(call.kwargs)
        for place, value in zip(places, inputs):
            (args if isinstance(place, int) else kwargs)[place] = value.unsqueeze(at)  # type: ignore[index]
        found = torch.func.functional_call(call.module, values, tuple(args), kwargs)
        return found[0] if isinstance(found, tuple) else found

    pull: Any = torch.func.vjp(output, parameters)[1]
    return pull(delta.unsqueeze(at))[0]


def _split(call: Call, at: int) -> tuple[list[Any], list[Tensor]]:
    """Arguments that carry rows, and where they stand."""
    named: list[tuple[Any, Any]] = [*enumerate(call.args), *call.kwargs.items()]
    carried = [(place, value.detach()) for place, value in named
               if isinstance(value, Tensor) and value.dim() > at and value.shape[at] == call.rows]  # fmt: skip
    return [place for place, _ in carried], [value for _, value in carried]


def _vmapped(call: Call, delta: Tensor, parameters: dict[str, Tensor], rows: range, at: int) -> dict[str, Tensor]:
    places, inputs = _split(call, at)
    index = slice(rows.start, rows.stop)
    cut = [value.transpose(0, at)[index] for value in inputs]

    def one(values: list[Tensor], gradient: Tensor) -> dict[str, Tensor]:
        return _pull(call, parameters, values, gradient, places, at)

    return torch.func.vmap(one)(cut, delta.transpose(0, at)[index])


def _looped(call: Call, delta: Tensor, parameters: dict[str, Tensor], rows: range, at: int) -> dict[str, Tensor]:
    places, inputs = _split(call, at)
    found = [
        _pull(call, parameters, [value.select(at, row) for value in inputs], delta.select(at, row), places, at)
        for row in rows
    ]
    return {name: torch.stack([part[name] for part in found]) for name in parameters}
