"""UDFC bits: weights rounded to a few bits, readers repaired by what their makers still hold, without data (Bai et al. 2023).

Removes: nothing; after a cut or without one.
Needs: what the model is called with; of the rows only the shape of one is read.
Cost: one solve of the size of its inputs for each matrix.
Departures: no code could be had, and the paper's order, bits of the first and last matrix and treatment of damaged
 channels are not verified: matrices go from input to output; each reader is first repaired for the rounding of its makers
 (every channel as a combination of all rounded ones, pulled towards itself), then rounded, so that its repair is rounded
 too. Where the predicted error does not fall, the reader is only rounded. Weights only, no activations; they stay
 floating-point numbers of few values, so size and time are unchanged. Grouped convolutions are rounded, not repaired.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prunus.compensate.reader import Matrix
from prunus.core.errors import BadInput
from prunus.core.registry import recovery
from prunus.graph.build import Graph
from prunus.graph.makers import makers_of
from prunus.graph.members import reading_axis
from prunus.maths.stand_in import combination, misfit, rounded
from prunus.prunables.example import example_of
from prunus.prunables.model import ModelPrunable
from prunus.prunables.roles import require_role
from prunus.recovery.training import Report


@recovery(needs=(), card="udfc")
def udfc_bits(
    model: nn.Module,
    data: Any,
    *,
    bits: int = 6,
    ends: int = 8,
    per_output: bool = False,
    repair: bool = True,
    alpha1: float = 0.01,
    alpha2: float = 3.0,
    masks: Any = None,
    report: Report | None = None,
) -> nn.Module:
    """Round the matrices of a model in place and return it in evaluation mode.

    Args:
        model: frozen parameters stay as they are.
        data: rows of role fit; only the shape of one is read.
        bits: of a weight, 2 or more.
        ends: bits of the first and the last matrix.
        per_output: a scale for each output instead of one for each matrix.
        repair: repair readers before they are rounded.
        alpha1: weight of the makers' shifts in the error.
        alpha2: pull of every channel towards itself, in mean squared norms of the filters.
        masks: train.Masks, or parameter name -> bool: zeros stay zero.
        report: filled with how many matrices were rounded and repaired.
    """
    require_role(data, {"fit"}, what="recovery")
    if bits < 2 or ends < 2:
        raise BadInput(f"weights need 2 bits or more, not {min(bits, ends)}")
    model.eval()
    graph = ModelPrunable(model, example_of(data, model)).graph
    order = reading_order(graph)
    named = dict(model.named_parameters())
    kept = getattr(masks, "named", masks) or {}
    before: dict[str, Tensor] = {}  # repaired, not yet rounded: what a maker is compared with
    repaired = 0
    for name in (n for n in order if named[n].requires_grad):
        value = named[name].detach()
        if repair and before:
            mixed = _repaired(graph, model, name, before, alpha1, alpha2)
            repaired += mixed is not None
            value = value if mixed is None else mixed
        value = value * kept[name].to(value) if name in kept else value
        before[name] = value.clone()
        with torch.no_grad():
            named[name].copy_(rounded(value, ends if name in (order[0], order[-1]) else bits, per_output=per_output))
    if report is not None:
        report |= {"rounded": float(len(before)), "repaired": float(repaired)}
    return model


def reading_order(graph: Graph) -> list[str]:
    """Matrices that read, each once, in the order in which the forward pass reads them."""
    trace = graph.main.trace
    seen = (trace.values[value].name for node in trace.nodes for value in node.inputs())
    return list(dict.fromkeys(name for name in seen if name in graph.reads and name in graph.parameters))


def _repaired(
    graph: Graph, model: nn.Module, name: str, before: dict[str, Tensor], alpha1: float, alpha2: float
) -> Tensor | None:
    """New weights of a reader whose makers are rounded by now; None where nothing is gained."""
    owner, axis = model.get_submodule(name.rpartition(".")[0]), reading_axis(graph, name)
    if axis is None or getattr(owner, "groups", 1) != 1:
        return None
    reader = Matrix(owner.__class__.__name__, name, model.get_parameter(name).detach(), axis)
    whole, now = makers_of(graph, model, name, before), makers_of(graph, model, name)
    new, gained = reader.weight.double().clone(), False
    for place in whole.places.unique().tolist():
        at = torch.nonzero(whole.places == place).flatten()
        sides = (whole.filters[at], whole.shifts[at], now.filters[at], now.shifts[at])
        same = torch.eye(len(at), dtype=torch.float64)
        was = misfit(*sides, same, alpha1)
        if place < 0 or not was.any():
            continue
        ridge = alpha2 * float(now.filters[at].square().sum(1).mean())
        mix = combination(*sides, alpha1=alpha1, alpha2=ridge, start=same)
        mix = torch.where((misfit(*sides, mix, alpha1) < was).unsqueeze(1), mix, same)
        new[at] = torch.einsum("mk,mto->kto", mix, reader.weight[at].double())
        gained = True
    return reader.dense(new).to(reader.value) if gained else None
