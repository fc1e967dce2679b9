"""Ranks of a model: which weights two thinner layers may replace, what each rank costs, and the edits that do it."""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from prunus.core.edits import Factor
from prunus.core.prunable import Group
from prunus.graph.build import Graph, build
from prunus.graph.count import Counter
from prunus.maths.rank_parts import Components, as_matrices, factors, scheme_of, shape_of
from prunus.prunables.edits import add_parts, can_factor
from prunus.signals.scan import transposed
from prunus.train.copies import copied
from prunus.train.kinds import Conv

Counts = Mapping[str, int]


@dataclass(frozen=True)
class RankMatrix:
    """A weight that may be factored.

    Attributes:
        name: of the parameter.
        module: that owns it.
        shape: `[N, C / groups, *kernel]`.
        groups: of a convolution.
        scheme: how the weight is read: channel, spatial or decouple.
        dtype: of the weight.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    groups: int
    scheme: str
    dtype: torch.dtype

    @property
    def form(self) -> tuple[int, int, int]:
        """(b, p, q): so many matrices of this shape."""
        return shape_of(self.shape, self.groups, self.scheme)

    @property
    def size(self) -> int:
        """The full rank."""
        return min(self.form[1:])

    @property
    def per_rank(self) -> int:
        """Parameters of one rank."""
        batch, p, q = self.form
        return batch * (p + q)

    def stays(self, count: int) -> int:
        """The rank that really stays: all of it where two layers of this rank would have no fewer parameters than one."""
        batch, p, q = self.form
        return count if count * self.per_rank < batch * p * q else self.size

    def read(self, model: nn.Module) -> Tensor:
        """The weight as `[b, p, q]`."""
        return as_matrices(self.stored(model), self.groups, self.scheme)

    def stored(self, model: nn.Module) -> Tensor:
        """The weight as `[N, C / groups, *kernel]`, detached."""
        module = model.get_submodule(self.module)
        weight = module.get_parameter("weight").detach()
        return weight.T if transposed(module) else weight

    def edit(self, parts: Components, kept: np.ndarray) -> Factor:
        """The two layers of the parts that stay, float32 (float64 where the weight is)."""
        kind = torch.float64 if self.dtype == torch.float64 else torch.float32
        both = factors(parts, torch.from_numpy(kept), self.shape, self.groups, self.scheme)
        u, v = (side.to("cpu", kind).contiguous().numpy() for side in both)
        return Factor(self.module, u, v, self.scheme)


def rank_matrices(model: nn.Module, scheme: str = "channel") -> tuple[RankMatrix, ...]:
    """Weights of linear layers and convolutions that are used by one module only and whose rank can fall."""
    owners = Counted(parameter for module in model.modules() for parameter in module.parameters(recurse=False))
    found: list[RankMatrix] = []
    for path, module in model.named_modules():
        if not path or not can_factor(module) or owners[module.get_parameter("weight")] > 1:
            continue
        weight = module.get_parameter("weight")
        shape = tuple(weight.T.shape if transposed(module) else weight.shape)
        groups = module.groups if isinstance(module, Conv) else 1
        one = RankMatrix(f"{path}.weight", path, shape, groups, scheme_of(shape, scheme), weight.dtype)
        if one.stays(1) < one.size:
            found.append(one)
    return tuple(found)


def rank_groups(model: nn.Module, scheme: str = "channel") -> tuple[Group, ...]:
    """One group for each weight, unit ranks; ids run from the part that matters most."""
    return tuple(
        Group(one.name, "ranks", one.size, (), float(one.per_rank), "x".join(map(str, (one.scheme, *one.shape))))
        for one in rank_matrices(model, scheme)
    )


class RankPrices:
    """Parameters and MACs of a model as a function of the ranks of its weights; exact, because both are linear in each rank.

    MACs are counted where there is a graph: the model with every weight at rank 1 is recorded once.

    Args:
        model: dense.
        matrices: the weights that take part.
        graph: of the dense model, or None.
        example: what it is called with.
    """

    def __init__(self, model: nn.Module, matrices: Iterable[RankMatrix], graph: Graph | None, example: object) -> None:
        self.matrices = {one.name: one for one in matrices}
        self._params = sum(parameter.numel() for parameter in model.parameters())
        self._macs: dict[str, tuple[int, int]] = {}
        self._total: int | None = None
        if graph is not None:
            dense = Counter(graph)
            self._total = dense.count().macs
            thin = Counter(build(_at_rank_one(model, self.matrices.values()), example))
            of, ones = _macs(dense), _macs(thin)
            self._macs = {
                name: (of(one.module), ones(f"{one.module}.0") + ones(f"{one.module}.1"))
                for name, one in self.matrices.items()
            }

    def stays(self, counts: Counts) -> dict[str, int]:
        """What is left of each weight: full ranks where factors save no parameters, or no MACs."""
        return {name: self._stays(one, counts.get(name, one.size)) for name, one in self.matrices.items()}

    def _stays(self, one: RankMatrix, count: int) -> int:
        dense, each = self._macs.get(one.name, (1, 0))
        return one.stays(count) if count * each < dense else one.size

    def __call__(self, counts: Counts) -> dict[str, float]:
        """params, ranks and, with a graph, macs; weights that are not named stay dense."""
        ranks = self.stays(counts)
        cut = {name: rank for name, rank in ranks.items() if rank < self.matrices[name].size}
        params = self._params
        for name, rank in cut.items():
            batch, p, q = self.matrices[name].form
            params += rank * self.matrices[name].per_rank - batch * p * q
        found = {"params": float(params), "ranks": float(sum(ranks.values()))}
        if self._total is not None:
            saved = sum(self._macs[name][0] - rank * self._macs[name][1] for name, rank in cut.items())
            found["macs"] = float(self._total - saved)
        return found


def _macs(counter: Counter) -> Callable[[str], int]:
    rows = {row.module: row.macs for row in counter.table()}
    return lambda module: rows.get(module, 0)


def _at_rank_one(model: nn.Module, matrices: Iterable[RankMatrix]) -> nn.Module:
    edits: list[Factor] = []
    for one in matrices:
        batch, p, q = one.form
        parts = Components(torch.zeros(batch, p, 1), torch.zeros(batch, 1, q), torch.zeros(1))
        edits.append(one.edit(parts, np.zeros(1, dtype=np.int64)))
    thin = copied(model)
    add_parts(thin, edits, lambda module, side: None)
    return thin
