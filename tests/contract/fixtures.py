"""64-unit fixtures, made once: rows with every signal, networks with groups of 64, tokens, matrices, budgets to split.

A method of a new kind, or one that needs a signal nobody measures here, fails in test_coverage.py with what to add.
"""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunus.allocate.request import Request
from prunus.compensate.reader import Matrix
from prunus.core.rng import Rng
from prunus.flow.signals import module_signals
from prunus.prunables.dataset import Dataset
from prunus.prunables.model import ModelPrunable
from prunus.signals.catalogue import providers
from prunus.signals.collect import collect
from prunus.signals.modules import ModuleSignals
from prunus.signals.recorder import Recorder
from prunus.signals.rowset import Signals
from prunus.tokens.gate import TokenSignals
from prunus.train.models import TinyViT, seeded

UNITS = 64
BLOCKS = 16
CLASSES = (0, 1, 3)  # of four: class 2 has no row


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers of a generator of their own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- rows ------------------------------------------------------------------------------------------------------------


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids, x, labels) in the order of the data, which is not that of the ids."""
    ids = 1000 + np.random.RandomState(0).permutation(UNITS)
    labels = np.array(CLASSES)[np.random.RandomState(1).choice(3, UNITS, p=[0.6, 0.3, 0.1])]
    return ids, draw(UNITS, 1, 16, 16).numpy(), labels


def dataset(order: np.ndarray | None = None, role: str = "fit") -> Dataset:
    """The 64 rows, permuted with their ids and labels."""
    ids, x, y = arrays()
    at = np.arange(UNITS) if order is None else order
    return Dataset((x[at], y[at]), ids=ids[at], role=role, name="rows64")


@cache
def row_signals() -> Signals:
    """Every signal of rows that any pass or any recorded run can give."""
    data = dataset()
    passed = [name for name, found in providers().items() if found.level == "rows"]
    measured = collect(vit(), data, passed, checkpoints=checkpoints()).rows
    assert measured is not None
    recorder = Recorder(data, window=2)
    for epoch in range(4):
        logits = 2 * draw(UNITS, 4, seed=10 + epoch)
        recorder.batch(data.ids, logits=logits, loss=logits.exp().mean(1))
        recorder.end_epoch()
    return measured.align(data.ids).merge(recorder.signals())


def changed(signals: Signals, **fields: Tensor) -> Signals:
    """The same signals with other numbers, past the checks of the constructor: what a broken file would hold."""
    parts = {name: (signals.field(name),) for name in signals._parts} | {n: (v,) for n, v in fields.items()}
    return Signals._of(signals.ids, parts, signals.provenance)


def equal_rows() -> Signals:
    """Every row measured alike."""
    signals = row_signals()
    same = {name: signals.field(name)[:1].expand(UNITS, *signals.field(name).shape[1:]) for name in signals._parts}
    return changed(signals, **{name: value.clone() for name, value in same.items()})


def options(method: Any) -> dict[str, Any]:
    """What a method can't do without: 20 rows of a target, as a small classifier sees them, for those that have one."""
    if "target" not in method.keywords:
        return {}
    width = row_signals().field("embedding").shape[1]
    return {"target": Signals(logits=draw(20, 4, seed=21), embedding=draw(20, width, seed=22))}


# ---- models ----------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A convolution with a norm, a linear layer that reads its feature maps, and one that reads 64 neurons."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.hidden, self.last = nn.Linear(4 * width, UNITS), nn.Linear(UNITS, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(F.relu(self.bn1(self.conv1(x))), 8).flatten(1)
        return self.last(F.relu(self.hidden(x)))


class Residual(nn.Module):
    """A block whose output looks like its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(self.norm(x)).tanh()


class Deep(nn.Module):
    """16 blocks between two linear layers: 64 would measure how fast graphs are recorded."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(256, width)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(BLOCKS)))
        self.last = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.first(x.flatten(1))))


class Recurrent(nn.Module):
    """Images read line by line by a GRU."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.cell, self.last = nn.GRU(16, width, batch_first=True), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(x[:, 0])[0][:, -1])


class Branch(nn.Module):
    """Two layers behind a norm, added to the stream they read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.relu(self.up(self.norm(x))))


class Stream(nn.Module):
    """A residual stream of 64 channels through two blocks, read by norms alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.blocks = nn.Linear(256, UNITS), nn.Sequential(Branch(UNITS), Branch(UNITS))
        self.norm, self.last = nn.LayerNorm(UNITS), nn.Linear(UNITS, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.blocks(self.first(x.flatten(1)))))


@cache
def _vit() -> nn.Module:
    return seeded(TinyViT, 0, size=16, patch=2, channels=1, dim=16, depth=2, heads=2, classes=4)


@cache
def _cnn() -> nn.Module:
    return seeded(Small, 0).eval()


@cache
def _deep() -> nn.Module:
    return seeded(Deep, 0).eval()


@cache
def _recurrent() -> nn.Module:
    return seeded(Recurrent, 0).eval()


@cache
def _stream() -> nn.Module:
    return seeded(Stream, 0).eval()


MODELS = {
    "channels": _cnn,
    "weights": _cnn,
    "layers": _deep,
    "ranks": _cnn,
    "tokens": _vit,
    "recurrent": _recurrent,
    "stream": _stream,
}


def model(unit: str) -> nn.Module:
    """A new copy of the network whose units are pruned: groups of 8 and 64 channels, 16 layers."""
    return copy.deepcopy(MODELS[unit]())


def of(method: Any) -> str:
    """Which of the networks a method is tried on: that of its unit, unless it knows one kind of layer only."""
    return str(method.facts.get("of", method.unit))


def vit() -> nn.Module:
    """A classifier with 64 tokens, two blocks and attention."""
    return copy.deepcopy(_vit())


@cache
def checkpoints() -> list[dict[str, Tensor]]:
    """Two earlier states of `vit`, for signals over checkpoints."""
    return [
        seeded(TinyViT, seed, size=16, patch=2, channels=1, dim=16, depth=2, heads=2, classes=4).state_dict()
        for seed in (1, 2)
    ]


EXAMPLE = torch.zeros(1, 1, 16, 16)


@cache
def prunable(unit: str) -> ModelPrunable:
    """The network with its graph; shared, so no check may change it."""
    return ModelPrunable(model(unit), EXAMPLE)


def fresh(unit: str, *, constant: bool = False) -> ModelPrunable:
    """A new model with its graph recorded, in training mode; with constant parameters where asked."""
    made = model(unit).train()
    for parameter in made.parameters() if constant else ():
        nn.init.constant_(parameter, 0.1)
    found = ModelPrunable(made, EXAMPLE)
    found.cost()
    return found


@cache
def measured(unit: str) -> ModuleSignals | None:
    """What all methods over the unit need, measured by the flow in one pass of the 64 rows."""
    return module_signals(prunable(unit), set(needs_of(unit)), data=dataset(), what="the contract")


# ---- tokens ----------------------------------------------------------------------------------------------------------


def tokens(examples: int = 4) -> TokenSignals:
    """64 tokens of each example, with every signal a gate can give."""
    attention = draw(examples, 2, UNITS, seed=1).softmax(-1)
    received = draw(examples, 2, UNITS, seed=2).softmax(-1)
    return TokenSignals(draw(examples, UNITS, 8), attention, received)


# ---- selectors, allocators, compensators -----------------------------------------------------------------------------


class Features(Signals):
    """Signals of units, with the features that selectors over tokens read."""


def unit_signals(order: np.ndarray) -> Signals:
    """What selectors read of 64 units: every signal of rows, and the features of tokens."""
    fields = {"labels": torch.from_numpy(arrays()[2]), "features": draw(UNITS, 8)}
    return row_signals().merge(Signals(arrays()[0], **fields)).take(order)


SIZES = {"a": 16, "b": 8, "c": 24, "d": 12, "e": 4}
RECALLS = {"a": 0.9, "b": 0.5, "c": 0.75, "d": 0.5, "e": 1.0}
SHAPES = {"a": (4, 4), "b": (2, 4), "c": (2, 3, 2, 2), "d": (3, 4), "e": (2, 2)}


def request(total: float = 32, order: str = "abcde", *, scores: Any = None, **settings: Any) -> Request:
    """64 units in five groups."""
    made = scores or {name: draw(size, seed=ord(name)).abs().numpy() + 0.01 for name, size in SIZES.items()}
    return Request.of(
        {name: SIZES[name] for name in order},
        total,
        scores=[made[name] for name in order],
        shapes=[SHAPES[name] for name in order],
        ids=[np.arange(SIZES[name]) for name in order],
        recalls=[RECALLS[name] for name in order],
        rng=Rng(0, "contract"),
        **settings,
    )


def reader() -> tuple[Matrix, Tensor]:
    """A matrix that reads 64 units, with all statistics of 256 rows of its inputs, and these inputs `[256, 64]`."""
    filters, shifts = draw(UNITS, UNITS, seed=3).T / 8, draw(UNITS, seed=4)
    inputs = (draw(256, UNITS) @ filters.T + shifts).double()
    hessian = inputs.T @ inputs
    makers = {"filters": filters.contiguous(), "shifts": shifts, "places": torch.zeros(UNITS, dtype=torch.long)}
    return Matrix("m", "m.weight", draw(8, UNITS, seed=5), 1, inputs.mean(0)[:, None], hessian, **makers), inputs


def layer(needs: Any = ()) -> SimpleNamespace:
    """A matrix [8, 8] as solvers and compensators over weights see it."""
    inputs = draw(256, 8, seed=6).double() + draw(256, 1, seed=7)
    fields = {"hessian": inputs.T @ inputs, "input_norm": inputs.norm(dim=0), "input_mean": inputs.mean(0)}
    fields |= {"input_var": inputs.var(0, correction=0)}
    rows = draw(256, 4, 16, seed=11).double() + draw(256, 4, 1, seed=12)  # gradients of 64 weights in four blocks
    fields["fisher_blocks"] = torch.einsum("nbi,nbj->bij", rows, rows) / len(rows)
    return SimpleNamespace(name="m.weight", weight=draw(8, 8, seed=8), taps=1, grad=draw(8, 8, seed=9), **fields)


def needs_of(unit: str) -> frozenset[str]:
    """All signals that methods over this unit of a model need; compensators go with channels."""
    from prunus.core import registry

    kinds = ("criterion", "solver", "compensator")
    found = [m for m in registry.methods(unit=unit) if m.kind in kinds]
    found += registry.methods(unit="", kind="compensator") if unit == "channels" else ()
    return frozenset(name for method in found for name in method.needs)


def warm() -> None:
    """Record the graphs, measure the signals, run the libraries' first calls."""
    row_signals()
    for unit in ("channels", "weights", "layers", "ranks"):
        prunable(unit).groups(unit)
        prunable(unit).cost()
        measured(unit)
    torch.linalg.cholesky(torch.eye(4, dtype=torch.float64))
