"""The table of operator rules, and the step object through which a rule reads and ties dimensions.

A rule is `rule(step) -> None`: it reads the dimensions of the operands, unifies them and sets the dimensions of the
outputs. An operator without a rule freezes all it touches and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from prunus.graph.axes import Axis, Dim, freeze, resolve, unify
from prunus.graph.record import Node, Ref, Trace

Role = Literal["writer", "reader", "vector"]
Rule = Callable[["Step"], None]
RULES: dict[str, Rule] = {}
FAILURES = (IndexError, KeyError, ValueError, StopIteration, TypeError, ZeroDivisionError, RuntimeError, AssertionError)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators by their name without namespace and overload; `add_` falls back to `add`."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def find(op: str) -> Rule | None:
    """The rule of an operator, or None."""
    return RULES.get(op) or RULES.get(op.rstrip("_")) or RULES.get(op.removeprefix("_unsafe_"))


def known(op: str) -> bool:
    """True if the operator has a rule of its own, so that the recorder must not take it apart."""
    return find(op) is not None


@dataclass(slots=True)
class Note:
    """What the graph remembers of one node, besides the dimensions of its tensors.

    Attributes:
        macs: terms `(factor, dims)`; the node costs the sum of factor x product of the dims' sizes.
        contracted: `(value, axis)` of operands that the operator sums over.
        reduced: `(value, axes)` that a norm or a reduction takes statistics over.
        literals: sizes that the operator was given as numbers, by argument name.
    """

    macs: list[tuple[int, tuple[Dim, ...]]] = field(default_factory=list)
    contracted: list[tuple[int, int]] = field(default_factory=list)
    reduced: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    literals: dict[str, Dim] = field(default_factory=dict)
    reads: dict[int, Dim] = field(default_factory=dict)


@dataclass(slots=True)
class Step:
    """One node seen by its rule."""

    node: Node
    trace: Trace
    dims: list[list[Dim]]
    roles: dict[tuple[int, int], Role]
    note: Note
    given: dict[str, Any]
    origins: dict[int, int]
    done: bool = False

    @property
    def why(self) -> str:
        """Place of this operator, for reasons."""
        return f"{self.node.op} in {self.node.module or 'the model'}"

    def get(self, name: str, default: Any = None) -> Any:
        """A non-tensor argument by its schema name."""
        item = self.given.get(name)
        return default if item is None else item

    def has(self, name: str) -> bool:
        """True if the named argument is a tensor."""
        return isinstance(self.given.get(name), Ref)

    def id(self, name: str) -> int:
        """Value id of a tensor argument."""
        return self.given[name].value

    def of(self, name: str) -> list[Dim]:
        """Dimensions of a tensor argument."""
        return self.dims[self.given[name].value]

    def list(self, name: str) -> list[int]:
        """Value ids of a list-of-tensors argument."""
        return [item.value for item in self.given[name] if isinstance(item, Ref)]

    def tie(self, a: Dim, b: Dim) -> None:
        """Unify two dimensions, with this operator as the reason if they cannot be matched."""
        unify(a, b, f"{self.why}: shapes do not line up")

    def stop(self, dims: Sequence[Dim], text: str) -> None:
        """Freeze dimensions and say what this operator does with them."""
        for dim in dims:
            freeze(dim, f"{self.why}: {text}")

    def fixed(self, size: int, text: str) -> Dim:
        """A new frozen dimension."""
        return Axis(size, f"{self.why}: {text}")

    def role(self, name: str, *roles: Role | None) -> None:
        """Role of each axis of a parameter operand; writer and reader win over vector."""
        value = self.id(name)
        value = self.origins.get(value, value)
        for axis, role in enumerate(roles):
            if role and self.roles.get((value, axis), "vector") == "vector":
                self.roles[(value, axis)] = role

    def shape(self, output: int = 0) -> tuple[int, ...]:
        """Recorded shape of an output."""
        value = self.node.outputs[output]
        return () if value is None else self.trace.values[value].shape

    def set(self, *outputs: Sequence[Dim]) -> None:
        """Dimensions of the outputs; the last entry is repeated for further outputs."""
        self.done = True
        for position, value in enumerate(self.node.outputs):
            if value is None:
                continue
            dims = list(outputs[min(position, len(outputs) - 1)])
            shape = self.trace.values[value].shape
            if tuple(dim.size for dim in dims) != shape:
                self.stop(dims, f"the rule expected shape {[dim.size for dim in dims]}, found {list(shape)}")
                dims = [self.fixed(size, "unexpected shape") for size in shape]
            self._store(value, dims)

    def _store(self, value: int, dims: list[Dim]) -> None:
        if self.dims[value] and value in self.node.inputs():  # an in-place operator returned its own operand
            for old, new in zip(self.dims[value], dims):
                self.tie(old, new)
        else:
            self.dims[value] = dims


def bind(node: Node) -> dict[str, Any]:
    """Arguments of a node by their schema names, defaults filled in."""
    given: dict[str, Any] = {}
    for position, argument in enumerate(node.func._schema.arguments):
        if position < len(node.args):
            given[argument.name] = node.args[position]
        elif argument.name in node.kwargs:
            given[argument.name] = node.kwargs[argument.name]
        else:
            given[argument.name] = argument.default_value if argument.has_default_value() else None
    return given


def apply_rule(
    node: Node,
    trace: Trace,
    dims: list[list[Dim]],
    roles: dict[tuple[int, int], Role],
    origins: dict[int, int],
) -> Note:
    """Tie the dimensions around one node; `origins` leads from a part of a parameter back to the parameter."""
    step = Step(node, trace, dims, roles, Note(), bind(node), origins)
    function = find(node.op)
    if function is None and torch.Tag.pointwise in node.func.tags:
        function = RULES["add"]
    if function is None and not any(value is not None for value in node.outputs):
        return step.note
    if function is not None:
        try:
            function(step)
        except FAILURES as error:  # a form of the operator that its rule does not know: keep all of it, say so
            refuse(step, f"its rule does not know this form ({type(error).__name__}: {error})")
    if not step.done:
        refuse(step, "no rule for this operator")
    return step.note


def refuse(step: Step, text: str) -> None:
    """Freeze everything a node touches."""
    for value in step.node.inputs():
        step.stop(step.dims[value], text)
    step.done = True
    for value in step.node.outputs:
        if value is not None and not step.dims[value]:
            step.dims[value] = [step.fixed(size, text) for size in step.trace.values[value].shape]


def live(dims: Sequence[Dim]) -> list[Dim]:
    """The dimensions of a list that still have something to prune."""
    return [dim for dim in map(resolve, dims) if not (isinstance(dim, Axis) and dim.frozen)]
