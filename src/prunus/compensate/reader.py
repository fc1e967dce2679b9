"""A matrix seen from its input side: what a compensator is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from prunus.core.errors import BadInput, NonFinite


class Reader(Protocol):
    """Anything with these; a Member of a group will do when it covers the whole input of its module."""

    @property
    def module(self) -> str: ...
    @property
    def parameter(self) -> str: ...
    @property
    def weight(self) -> Tensor:
        """`[units, per_unit, outputs]`."""
        ...

    @property
    def input_mean(self) -> Tensor | None:
        """`[units, per_unit]`."""
        ...

    @property
    def hessian(self) -> Tensor | None:
        """`[units * per_unit, units * per_unit]`, unit by unit."""
        ...

    @property
    def filters(self) -> Tensor | None:
        """`[units, d]`: the filters that make each unit, norms folded in (graph.makers)."""
        ...

    @property
    def shifts(self) -> Tensor | None:
        """`[units]`: what these makers add."""
        ...

    @property
    def places(self) -> Tensor | None:
        """int64 `[units]`: units of one place may stand in for one another; -1 for none."""
        ...

    def dense(self, weight: Tensor) -> Tensor:
        """`weight [units, per_unit, outputs]` in the shape of the parameter."""
        ...


@dataclass(frozen=True, eq=False)
class Matrix:
    """A Reader made of one parameter.

    Attributes:
        module, parameter: qualified names, as `layer1.0.conv2` and `layer1.0.conv2.weight`.
        value: the parameter: `[outputs, inputs]`, `[outputs, inputs, *taps]`, or, with axis 0, `[inputs, outputs]`.
        axis: its input axis.
        input_mean: `[inputs, taps]`, or None.
        hessian: `[inputs * taps, inputs * taps]`, or None.
        filters, shifts, places: of the inputs' makers, or None.
    """

    module: str
    parameter: str
    value: Tensor
    axis: int = 1
    input_mean: Tensor | None = None
    hessian: Tensor | None = None
    filters: Tensor | None = None
    shifts: Tensor | None = None
    places: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """`[inputs, taps, outputs]`."""
        turned = self.value.detach().moveaxis(self.axis, 0)
        return turned.reshape(turned.shape[0], turned.shape[1], -1).swapaxes(1, 2)

    def dense(self, weight: Tensor) -> Tensor:
        """The parameter's own shape again."""
        turned = self.value.moveaxis(self.axis, 0)
        return weight.swapaxes(1, 2).reshape(turned.shape).moveaxis(0, self.axis).contiguous()


def removed_units(reader: Reader, dropped: np.ndarray) -> Tensor:
    """bool `[units]` from dropped positions.

    Raises:
        BadInput: a position is outside, or everything would go.
    """
    units = reader.weight.shape[0]
    dropped = np.asarray(dropped, dtype=np.int64)
    if dropped.size and not 0 <= dropped.min() <= dropped.max() < units:
        raise BadInput(
            f"{reader.parameter} reads {units} units; dropped {int(dropped.min())}..{int(dropped.max())} lies outside"
        )
    removed = torch.zeros(units, dtype=torch.bool)
    removed[torch.from_numpy(dropped)] = True
    return removed


def as_matrix(reader: Reader) -> Tensor:
    """`[outputs, units * per_unit]`, the columns unit by unit."""
    units, width, outputs = reader.weight.shape
    return reader.weight.detach().reshape(units * width, outputs).T


def from_matrix(reader: Reader, matrix: Tensor) -> np.ndarray:
    """The dense parameter that `matrix [outputs, units * per_unit]` stands for, in the precision of the reader's
    weight."""
    units, width, outputs = reader.weight.shape
    return from_units(reader, matrix.T.reshape(units, width, outputs))


def from_units(reader: Reader, weight: Tensor) -> np.ndarray:
    """The dense parameter that `weight [units, per_unit, outputs]` stands for, in the precision of the reader's weight."""
    kind = torch.float64 if reader.weight.dtype == torch.float64 else torch.float32
    return reader.dense(weight).to(kind).cpu().numpy()


def need_hessian(reader: Reader) -> Tensor:
    """The hessian, or an error that says how to get it; its size is checked."""
    width = reader.weight.shape[0] * reader.weight.shape[1]
    if reader.hessian is None:
        raise BadInput(f"{reader.parameter} has no hessian: collect the signal hessian, or compensate with mean_bias")
    if tuple(reader.hessian.shape) != (width, width):
        raise BadInput(f"{reader.parameter} reads {width} columns but its hessian is {tuple(reader.hessian.shape)}")
    return finite(reader, "hessian", reader.hessian)


def finite(reader: Reader, name: str, statistic: Tensor) -> Tensor:
    """The statistic itself, or NonFinite that names the matrix."""
    if not bool(torch.isfinite(statistic).all()):
        raise NonFinite(f"the {name} of {reader.parameter} holds NaN or infinity: look at its calibration activations")
    return statistic
