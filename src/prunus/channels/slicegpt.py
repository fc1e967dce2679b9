"""SliceGPT: the residual stream is turned to its principal axes, exactly, and the least of them are cut (Ashkboos et al. 2024).

Removes: channels of the residual stream: a smaller hidden width in every block, the embedding and the output layer.
Needs: second moments of what the norms read, over calibration tokens; no labels.
Cost: one forward pass with one d x d product for each norm, one eigendecomposition (float64, d^3) for each rotation. The model
 gets a tensor of its own for an output layer that was tied to the embedding (vocabulary * k numbers), and with rotations="layer"
 a k x k matrix for each block; both are in the plan's params.
Departures: all moments are of the dense model, from one pass; the released code goes block by block on already cut inputs.
 One rotation for each block, for its attention and its feed-forward alike, so half as many k x k matrices as published;
 rotations="shared" has one for the whole model and none of these, so a config can say the result. The means of layer norms are
 not baked into the matrices: a rotation that maps equal entries to equal entries leaves them be, and layer norms stay what they
 are. The output layer is cut too. Gains go into the matrices that read the norms, which then multiply by sqrt(d / k), because they
 divide by k numbers instead of d. The turned, uncut model is compared with the dense one on the example input before anything
 is planned: models where a norm's output is added to the stream (post-norm) are refused.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prunus.core.budget import Budget
from prunus.core.edits import AddBias, Edit, Rotate, Scale, SetWeight, Transform, Untie
from prunus.core.errors import BadInput, BudgetUnreachable, UnknownName
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.core.rng import Rng
from prunus.graph.stream import Affine, Stream, affine_of, stream_of
from prunus.graph.trace import run, tensors_in
from prunus.maths.rotation import rotation
from prunus.train.modes import evaluating

CLOSE = {torch.float64: 1e-5, torch.float32: 1e-3}  # norms of many float64 models compute in float32


@search(unit="channels", of="stream", needs=("stream_moment",), card="slicegpt")
def slicegpt(
    prunable: Any,
    budget: Budget,
    *,
    signals: Any,
    rng: Rng,
    rotations: Literal["layer", "shared"] = "layer",
    basis: Literal["pca", "random", "axes"] = "pca",
    damp: float = 0.01,
) -> Plan:
    """The largest hidden width within the budget, and the edits that turn the stream before it is cut.

    Args:
        prunable: the model with its graph.
        budget: `75% channels` (of the stream), or over params or macs of the whole model; `round_to` rounds the width.
        signals: `stream_moment [d, d]` of every norm of the stream.
        rng: for basis="random".
        rotations: one for each block, with a matrix behind every block, or one shared by all.
        basis: principal axes, or as controls a random rotation, or the stream's own axes with the most energy.
        damp: relative to the mean energy of an axis.

    Returns:
        A Plan that keeps the first k channels of the turned stream.

    Raises:
        BadInput: no such stream, or one that can't be turned without changing what the model computes.
        BudgetUnreachable: even the least width costs more.
    """
    if rotations not in ("layer", "shared"):
        raise UnknownName("rotations", rotations, ("layer", "shared"))
    turn = Turn(prunable, stream_of(prunable.graph), signals, rotations == "layer", basis, damp, rng)
    group, size = turn.stream.group, turn.stream.size
    dense = {**prunable.count(), "channels": float(size)}
    if budget.keeps_all:
        return Plan("channels", {group: Kept.of_ids(np.arange(size), size)}, budget, dense, dense)
    width = widest(budget, dense, size, turn.cost)
    whole = turn.plan(size, replace(budget, terms=()))
    different = distance(prunable.model, prunable.apply(whole), prunable.example)
    if different > CLOSE.get(next(prunable.model.parameters()).dtype, 0.1):
        raise BadInput(
            f"the turned model computes something else (relative difference {different:.2g}): a norm's output or a scaled branch "
            "is added to the residual stream, so it can't be rotated; use a criterion over channels"
        )
    plan = turn.plan(width, budget)
    made = {"width": width, "of": size, "rotations": rotations, "difference": float(f"{different:.1g}")}
    return replace(plan, planned=turn.cost(width), dense=dense, provenance=made)


def widest(budget: Budget, dense: dict[str, float], size: int, cost: Callable[[int], dict[str, float]]) -> int:
    """The largest width, a multiple of the budget's rounding, that meets every term."""
    limits, step = budget.limits(dense), budget.step(size)
    widths = [width for width in range(step, size + 1, step) if width >= max(budget.floor, 2)]
    found = bisect.bisect_left(widths, True, key=lambda width: not limits.met(cost(width)))
    if not found:
        nearest = limits.shown(cost(widths[0])) if widths else f"{size} channels"
        raise BudgetUnreachable(f"{budget} can't be met by a smaller hidden width", nearest=nearest)
    return widths[found - 1]


def distance(dense: Any, other: Any, example: Any) -> float:
    """Largest difference of outputs, relative to the largest output."""
    with evaluating(dense, other), torch.no_grad():
        pairs = list(zip(tensors_in(run(dense, example)), tensors_in(run(other, example)), strict=True))
    scale = max((float(one.abs().max()) for one, _ in pairs), default=0.0)
    return max((float((one - two).abs().max()) for one, two in pairs), default=0.0) / max(scale, 1e-30)


@dataclass(eq=False)
class Turn:
    """The rotations of one stream, and what they cost.

    Attributes:
        prunable: the model.
        stream: of its graph.
        signals: `stream_moment` of its norms.
        by_layer: one rotation for each block of the chain, and one behind it.
    """

    prunable: Any
    stream: Stream
    signals: Any
    by_layer: bool
    basis: str
    damp: float
    rng: Rng

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """Blocks whose outputs are the stream, in order; none where one rotation is shared."""
        if not self.by_layer:
            return ()
        norms = [norm.path for norm in self.stream.norms]
        own = [c for c in self.prunable.chains if any(path.startswith(f"{c.path}.") for path in norms)]
        if len(own) != 1 or not all(own[0].removable):
            raise BadInput("the stream does not run through one chain of blocks: use rotations='shared'")
        return own[0].children

    @cached_property
    def norms(self) -> dict[str, Affine]:
        """Norm -> its gain and shift."""
        found = {
            norm.path: affine_of(self.prunable.model.get_submodule(norm.path), norm.path) for norm in self.stream.norms
        }
        if len({one.centres for one in found.values()}) > 1:
            raise BadInput("some norms of the stream subtract the mean and others don't: it can't be rotated")
        return found

    def place(self, name: str, outside: int) -> int:
        """Number of the rotation that a module or parameter lives with; `outside` where it is in no block."""
        return next((at for at, block in enumerate(self.blocks) if name.startswith(f"{block}.")), outside)

    @cached_property
    def moments(self) -> list[Tensor]:
        """Moment of each rotation: the sum over the norms that live with it; float64."""
        found = [torch.zeros(self.stream.size, self.stream.size, dtype=torch.float64) for _ in (*self.blocks, "")]
        for norm in self.stream.norms:
            found[self.place(norm.path, len(self.blocks))] += self.signals[norm.path].stream_moment.double()
        return [self._based(moment, number) for number, moment in enumerate(found)]

    def _based(self, moment: Tensor, number: int) -> Tensor:
        """The moment whose principal axes are those of the basis."""
        if self.basis == "axes":
            return torch.diag(moment.diagonal())
        if self.basis == "random":
            drawn = torch.randn(moment.shape, generator=self.rng.child(str(number)).torch(), dtype=torch.float64)
            return drawn @ drawn.T
        if self.basis != "pca":
            raise UnknownName("basis", self.basis, ("pca", "random", "axes"))
        return moment

    def cost(self, width: int) -> dict[str, float]:
        """params, macs and channels with this width, own tensors and added matrices included."""
        graph, stream = self.prunable.graph, self.stream
        found = dict(self.prunable.count({stream.group: width}))
        found["params"] += sum(math.prod(graph.shapes[name]) // stream.size * width for name in stream.tied)
        found["params"] += sum(len(edit.value) for edit in self.biases if self._has_no_bias(edit.module))
        for block in self.blocks:
            call = next(call for call in graph.main.trace.calls if call.path == block)
            positions = math.prod(graph.main.trace.values[call.outputs[0]].shape[:-1])
            found["params"] += width * width
            found["macs"] += positions * width * width
        return {**found, "channels": float(width)}

    def _has_no_bias(self, path: str) -> bool:
        return getattr(self.prunable.model.get_submodule(path), "bias", None) is None

    @cached_property
    def biases(self) -> list[AddBias]:
        """What the shifts of norms give through the matrices that read them."""
        found: list[AddBias] = []
        for norm in self.stream.norms:
            shift = self.norms[norm.path].shift
            for name, axis in norm.readers if shift.any() else ():
                weight = self.prunable.model.get_parameter(name).detach().double().cpu()
                given = weight.movedim(axis, -1) @ shift
                found.append(AddBias(name.rpartition(".")[0], self._array(given)))
        return found

    def _array(self, values: Tensor) -> np.ndarray:
        """float64 for a float64 model, else float32."""
        wide = next(self.prunable.model.parameters()).dtype == torch.float64
        return np.ascontiguousarray((values if wide else values.float()).numpy())

    def plan(self, width: int, budget: Budget) -> Plan:
        """Turned, and cut to this width."""
        layer_norm = any(one.centres for one in self.norms.values())
        turns = [rotation(moment, width, layer_norm=layer_norm, damp=self.damp) for moment in self.moments]
        flat = [self._array(turn.T) for turn in turns]
        edits: list[Edit] = [Untie(name) for name in self.stream.tied]
        for norm in self.stream.norms:
            edits += self._folded(norm.path, math.sqrt(self.stream.size / width))
            gain = self._array(self.norms[norm.path].gain)
            for name, axis in norm.readers:
                edits += [Scale(name, axis, gain)]
                edits += [Rotate(name, axis, flat[self.place(name, len(self.blocks))])]
        edits += [Rotate(name, axis, flat[self.place(name, 0)]) for name, axis in self.stream.adds]
        for number, block in enumerate(self.blocks):
            matrix = turns[number][:, :width].T @ turns[number + 1][:, :width]
            edits.append(Transform(block, self._array(matrix)))
        kept = Kept.of_ids(np.arange(width), self.stream.size)
        return Plan("channels", {self.stream.group: kept}, budget, edits=(*edits, *self.biases))

    def _folded(self, path: str, factor: float) -> list[Edit]:
        """The norm's own gain and shift are gone; it multiplies by `factor`."""
        facts = self.norms[path]
        edits: list[Edit] = [
            SetWeight(f"{path}.weight", self._array(torch.full_like(facts.gain, factor - facts.offset)))
        ]
        if facts.shift.any():
            edits.append(SetWeight(f"{path}.bias", self._array(torch.zeros_like(facts.shift))))
        return edits
