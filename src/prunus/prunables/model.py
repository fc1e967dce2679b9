"""ModelPrunable: any model that runs a forward pass, as channels (and heads), weights, layers or ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.edits import Bypass, LowRank, Share, Transform, Untie
from prunus.core.errors import BadInput, FingerprintMismatch
from prunus.core.fingerprint import fingerprint_model
from prunus.core.plan import Plan
from prunus.core.prunable import Group, Slot
from prunus.graph.axes import leaves, mask_of
from prunus.graph.branches import branches, leave_out, tuple_lengths
from prunus.graph.build import Graph, build
from prunus.graph.chains import Chain, chain_groups, chains, remove_layers
from prunus.graph.count import Counter
from prunus.graph.cut import cut
from prunus.graph.example import describe, restore
from prunus.graph.lines import from_lines, stored_as_inputs, to_lines
from prunus.graph.mask import mask as masked
from prunus.graph.members import reading_axis, writing_axis
from prunus.graph.record import named_tensors
from prunus.prunables.edits import add_parts, multiply_out, set_weights, share_parameters
from prunus.prunables.ranks import RankMatrix, RankPrices, rank_groups, rank_matrices
from prunus.train.copies import copied
from prunus.train.kinds import Conv

Mode = Literal["cut", "mask"]


class ModelPrunable:
    """A model with its graph. Nothing is recorded before it is needed.

    Args:
        model: left as it is.
        example: what the model is called with: a tensor, a tuple of arguments or a dict of keywords. Only its shapes
            matter, unless the forward needs data. Without one, a plan's own description is used.
        step: the adapter of a batch, handed through to signals.
    """

    def __init__(self, model: nn.Module, example: Any = None, step: Any = None) -> None:
        self.model = model
        self.example = example
        self.step = step

    @cached_property
    def graph(self) -> Graph:
        """The recorded graph. Raises `BadInput` without an example input, or if the forward fails on it."""
        if self.example is None:
            raise BadInput("the graph of a model needs an example input: ModelPrunable(model, example)")
        return build(self.model, self.example)

    @cached_property
    def counter(self) -> Counter:
        """Parameters and MACs as a function of kept sizes."""
        return Counter(self.graph)

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """Chains of removable blocks."""
        return chains(self.model, self.graph)

    @cached_property
    def branches(self) -> tuple[Chain, ...]:
        """Rows of residual branches that may be left out alone: attention or feed-forward of every block of a chain."""
        return branches(self.graph, self.chains)

    @cached_property
    def branch_outputs(self) -> dict[str, int]:
        """Branch -> entries of the tuple it returns, 0 for a tensor; one forward pass of the example."""
        return tuple_lengths(self.model, [name for row in self.branches for name in row.children], self.example)

    def record_branch_outputs(self) -> None:
        """Find `branch_outputs` now, so that copies of this prunable have it too."""
        _ = self.branch_outputs

    @property
    def fixed(self) -> dict[str, np.ndarray]:
        """Chain or row of branches -> positions that must stay, int64."""
        return {chain.path: chain.fixed for chain in (*self.chains, *self.branches)}

    def describe(self) -> Any:
        """JSON of the example input, for `Plan.provenance["example"]`: `plan.apply(model)` needs nothing else then."""
        return describe(self.example)

    def groups(self, unit: str | None = None) -> tuple[Group, ...]:
        """Groups of channels (default), weights, layers or ranks."""
        if unit in (None, "channels"):
            return self.graph.groups
        if unit == "weights":
            return weight_groups(self.model, self.graph if self.example is not None else None)
        if unit == "layers":
            return chain_groups(self.model, self.graph)
        if unit == "ranks":
            return rank_groups(self.model)
        raise BadInput(f"a model is pruned by channels, weights, layers or ranks here, not by {unit}")

    def rank_matrices(self, scheme: str = "channel") -> tuple[RankMatrix, ...]:
        """Weights that two thinner layers may replace, as the scheme reads them."""
        return rank_matrices(self.model, scheme)

    def rank_prices(self, scheme: str, names: Iterable[str]) -> RankPrices:
        """What the named weights cost as a function of their ranks."""
        chosen = set(names)
        matrices = [one for one in self.rank_matrices(scheme) if one.name in chosen]
        return RankPrices(self.model, matrices, None if self.example is None else self.graph, self.example)

    def count(self, sizes: Mapping[str, int] | None = None) -> dict[str, float]:
        """params, macs and channels with the given kept sizes by group name; milliseconds."""
        counts = self.counter.count(sizes)
        chosen = dict(sizes or {})
        channels = sum(chosen.get(group.name, group.size) for group in self.graph.groups)
        return {"params": float(counts.params), "macs": float(counts.macs), "channels": float(channels)}

    def priced(self, counts: Mapping[str, int]) -> dict[str, float]:
        """params, macs and channels where the named groups keep so many units; `channels` are those of these groups alone."""
        return {**self.count(counts), "channels": float(sum(counts.values()))}

    def cost(self, plan: Plan | None = None) -> dict[str, float]:
        """params, macs (if there is an example input), weights; under a plan its own units too."""
        if plan is None or plan.unit == "channels":
            if plan is not None and plan.planned and any(isinstance(edit, (Transform, Untie)) for edit in plan.edits):
                return dict(plan.planned)  # counts what these add to the model
            if self.example is None:
                return {"params": float(_params(self.model))}
            return self.count({name: kept.count for name, kept in plan.groups.items()} if plan else None)
        if plan.unit == "weights" and not shares(plan):
            stays = float(sum(kept.count for kept in plan.groups.values()))
            beside = sum(edit.a.size + edit.b.size for edit in plan.edits if isinstance(edit, LowRank))
            return {"params": float(_params(self.model) + beside), "weights": stays}
        small = self.apply(plan)
        cost = {"params": float(_params(small)), plan.unit: float(sum(kept.count for kept in plan.groups.values()))}
        if shares(plan):
            return cost | {"weights": plan.planned["weights"]}
        return cost if self.example is None else cost | {"macs": ModelPrunable(small, self.example).count()["macs"]}

    def require(self, what: str, made_for: str) -> None:
        """Raise FingerprintMismatch, naming both, where a score or plan was made for another model."""
        if made_for and made_for != (own := self.fingerprint()):
            raise FingerprintMismatch(what, made_for, f"{type(self.model).__name__} {own}")

    @property
    def is_meta(self) -> bool:
        """Whether the model has shapes only (torch's meta device)."""
        return any(tensor.is_meta for tensor in self.model.parameters())

    def fingerprint(self) -> str:
        """Architecture and state; "" on the meta device, where there is no state: such plans go by names and sizes."""
        if self.is_meta:
            return ""
        return fingerprint_model(self.model)

    def apply(self, plan: Plan, *, mode: Mode = "cut", inplace: bool = False) -> nn.Module:
        """The model with only what stays: smaller (`cut`), or with zeros (`mask`, and always for weights).

        Raises `FingerprintMismatch` if the plan was made for another model.
        """
        self.require("plan", plan.fingerprint)
        if plan.unit == "weights":
            return self._apply_weights(plan, inplace)
        if plan.unit == "layers":
            return self._apply_layers(plan, inplace)
        if plan.unit == "ranks":
            return self._apply_ranks(plan, mode, inplace)
        if plan.unit != "channels":
            raise BadInput(f"a plan over {plan.unit} cannot be applied to a model here")
        return self._apply_channels(plan, mode, inplace)

    def _apply_channels(self, plan: Plan, mode: Mode, inplace: bool) -> nn.Module:
        graph = self.graph_for(plan)
        keep = {name: kept.index() for name, kept in plan.groups.items()}
        model = self.model
        if mode == "mask" and any(isinstance(edit, Transform) for edit in plan.edits):
            raise BadInput("blocks of this plan change the axes of their outputs, which a mask can't: use mode='cut'")
        if plan.edits and not inplace:
            model = copied(model)
        set_weights(model, plan.edits)
        consume = inplace or bool(plan.edits)
        small = (cut if mode == "cut" else masked)(model, graph, keep, inplace=consume)
        masks = graph.masks(keep)

        def kept(module: str, side: str) -> np.ndarray | None:
            name = f"{module}.weight"
            axis = writing_axis(graph, name) if side == "out" else reading_axis(graph, name)
            if mode == "mask" or axis is None:
                return None
            return np.flatnonzero(mask_of(graph.tensors[name][axis], masks))

        add_parts(small, plan.edits, kept)
        return small

    def graph_for(self, plan: Plan) -> Graph:
        """The graph; without an example input, the plan's own description of one is used."""
        if self.example is None:
            text = plan.provenance.get("example")
            if text is None:
                raise BadInput(
                    "this plan does not say what its model is called with: use ModelPrunable(model, example)"
                )
            with next((tensor.device for tensor in self.model.parameters()), torch.device("cpu")):
                self.example = restore(text)
        return self.graph

    def _apply_weights(self, plan: Plan, inplace: bool) -> nn.Module:
        model = self.model if inplace else copied(self.model)
        set_weights(model, plan.edits)
        tensors = named_tensors(model)
        with torch.no_grad():
            for name, kept in plan.groups.items():
                weight = tensors.get(name)
                if weight is None or weight.numel() != kept.size:
                    raise BadInput(f"the plan keeps {kept.size} weights of {name!r}, which this model does not have")
                weight.mul_(in_storage(model, name, kept.mask()).to(weight))
        add_parts(model, plan.edits, lambda module, side: None)
        share_parameters(model, plan.edits)
        return model

    def _apply_ranks(self, plan: Plan, mode: Mode, inplace: bool) -> nn.Module:
        model = self.model if inplace else copied(self.model)
        set_weights(model, plan.edits)
        if mode == "cut":
            add_parts(model, plan.edits, lambda module, side: None)
        else:
            multiply_out(model, plan.edits)
        return model

    def _apply_layers(self, plan: Plan, inplace: bool) -> nn.Module:
        self.graph_for(plan)
        rows = [row for row in self.branches if row.path in plan.groups] if any(":" in n for n in plan.groups) else []
        known = (*self.chains, *rows)
        gone = {edit.module for edit in plan.edits if isinstance(edit, Bypass)}
        unknown = gone - {child for chain in known for child in chain.children}
        if unknown:
            raise BadInput(f"{sorted(unknown)[0]} is no block of a chain, so it cannot be bypassed")
        lengths = self.branch_outputs if rows else {}
        model = self.model if inplace else copied(self.model)
        set_weights(model, plan.edits)
        for row in rows:
            for place in plan.groups[row.path].dropped():
                leave_out(model, self.graph, row.children[place], lengths[row.children[place]])
        blocks = {name: kept.index() for name, kept in plan.groups.items() if name not in {row.path for row in rows}}
        remove_layers(model, self.chains, blocks)
        return model

    def check(self) -> dict[str, Any]:
        """What can be pruned: groups and sizes, prunable share, frozen axes by reason, unseen parameters."""
        graph = self.graph
        reasons: dict[str, list[str]] = {}
        for (name, axis), reason in graph.frozen.items():
            reasons.setdefault(reason, []).append(f"{name}:{axis}")
        counts = self.counter.count()
        return {
            "params": counts.params,
            "macs": counts.macs,
            "groups": [
                {"group": one.name, "size": one.size, "members": len(one.slots), "cost": one.cost, "tag": one.tag}
                for one in graph.groups
            ],
            "layers": [{"chain": one.path, "blocks": len(one.children)} for one in self.chains],
            "prunable_share": prunable_share(graph),
            "frozen": [{"reason": reason, "axes": axes} for reason, axes in sorted(reasons.items())],
            "unseen": list(graph.unseen),
            "recorded": "shapes only" if graph.fake else "with data",
            "notes": list(graph.notes),
        }


def shares(plan: Plan) -> bool:
    """Whether parameters read one array under the plan, instead of losing weights."""
    return any(isinstance(edit, Share) for edit in plan.edits)


def prunable_share(graph: Graph) -> float:
    """Share of the parameter elements that have at least one axis in a group."""
    free = set(graph.axes.values())
    total = part = 0
    for name, canonical in graph.parameters.items():
        if name == canonical:
            size = int(np.prod(graph.shapes[name]))
            total += size
            part += size if any(leaf in free for dim in graph.tensors[name] for leaf in leaves(dim)) else 0
    return part / total if total else 0.0


def _params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def is_matrix(module: nn.Module) -> bool:
    """Convolutions, linear layers and linear layers stored as [in, out]."""
    stored = isinstance(getattr(module, "nf", None), int) and getattr(module, "weight", torch.empty(0)).dim() == 2
    return isinstance(module, (nn.Linear, Conv)) or stored


def matrices_of(module: nn.Module) -> tuple[str, ...]:
    """Names of the module's own weight matrices: `weight`, or those of a recurrent layer or cell (`weight_ih_l0`, ...)."""
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return tuple(name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight_"))
    return ("weight",) if is_matrix(module) else ()


def weight_groups(model: nn.Module, graph: Graph | None = None) -> tuple[Group, ...]:
    """One group per weight matrix, unit weights; ids run over `[outputs, inputs * taps]` row by row. Ties once.

    The gates of a recurrent layer are stacked along the outputs of one matrix, as torch stores them.
    """
    made: list[Group] = []
    seen: list[Tensor] = []
    for path, module in model.named_modules():
        for own in matrices_of(module):
            weight = getattr(module, own, None)
            if not isinstance(weight, Tensor) or any(weight is other for other in seen):
                continue
            seen.append(weight)
            name = f"{path}.{own}" if path else own
            axis = int(stored_as_inputs(module))
            slot = Slot(name, axis, "writer", np.arange(weight.shape[axis], dtype=np.int64)[:, None])
            made.append(Group(name, "weights", weight.numel(), (slot,), 1.0, type(module).__name__))
    return tuple(made)


def as_lines(model: nn.Module, name: str) -> Tensor:
    """A weight matrix as `[outputs, inputs * taps]`, detached; a view where the storage allows it."""
    return lines_of(model, name, named_tensors(model)[name].detach())


def lines_of(model: nn.Module, name: str, stored: Tensor) -> Tensor:
    """Anything in the shape of a stored weight (a mask, a gradient) as `[outputs, inputs * taps]`."""
    return to_lines(model.get_submodule(name.rpartition(".")[0]), stored)


def in_storage(model: nn.Module, name: str, lines: np.ndarray) -> Tensor:
    """`[outputs, inputs * taps]` (a mask, new weights) in the shape of the stored weight; turns `as_lines` back."""
    module = model.get_submodule(name.rpartition(".")[0])
    return from_lines(module, torch.from_numpy(lines), tuple(named_tensors(model)[name].shape))
