"""Edits: the only things a plan can do to a model besides keeping units. Loaders and deployment checks know these.

Arrays are numpy, float32 or float64. Names are those of the DENSE model.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from prunus.core.errors import CorruptFile

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, eq=False)
class SetWeight:
    """Replace a parameter of dense shape by `value` (the cut then slices it)."""

    parameter: str
    value: np.ndarray


@dataclass(frozen=True, eq=False)
class AddBias:
    """Add `value [outputs]` to the bias of a module, which gets one if it has none."""

    module: str
    value: np.ndarray


@dataclass(frozen=True, eq=False)
class LowRank:
    """Add `b @ a` beside a linear module: y += b (a x); `a [rank, inputs]`, `b [outputs, rank]`."""

    module: str
    a: np.ndarray
    b: np.ndarray


@dataclass(frozen=True, eq=False)
class Factor:
    """Replace a linear module by two: y = u (v x); `v [rank, inputs]`, `u [outputs, rank]`."""

    module: str
    u: np.ndarray
    v: np.ndarray


@dataclass(frozen=True, eq=False)
class Rotate:
    """Multiply one axis of a parameter by the orthogonal `q [size, size]`."""

    parameter: str
    axis: int
    q: np.ndarray


@dataclass(frozen=True, eq=False)
class Scale:
    """Multiply one axis of a parameter by `value [size]`."""

    parameter: str
    axis: int
    value: np.ndarray


@dataclass(frozen=True, eq=False)
class Untie:
    """Give a parameter that is shared with others, such as an output layer with the embedding, a tensor of its own."""

    parameter: str


@dataclass(frozen=True, eq=False)
class Transform:
    """Multiply what a block of a chain gives by `matrix [kept width, kept width]`: y @ matrix."""

    module: str
    matrix: np.ndarray


@dataclass(frozen=True, eq=False)
class Bypass:
    """A block of a chain is taken out: its input becomes its output."""

    module: str


Edit = SetWeight | AddBias | LowRank | Factor | Rotate | Scale | Untie | Transform | Bypass
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (SetWeight, AddBias, LowRank, Factor, Rotate, Scale, Untie, Transform, Bypass)
}  # fmt: skip


def to_json(edits: tuple[Edit, ...]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Split edits into JSON entries and the arrays they name. An array that several edits hold is written once."""
    entries: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    first: dict[int, str] = {}
    for number, edit in enumerate(edits):
        entry: dict[str, Any] = {"edit": type(edit).__name__}
        for field in fields(edit):
            value = getattr(edit, field.name)
            if isinstance(value, str | int):
                entry[field.name] = value
                continue
            own = f"edits/{number}/{field.name}"
            place = first.setdefault(id(value), own)  # the edits keep it alive
            arrays[place] = value
            if place != own:
                entry.setdefault("same", {})[field.name] = place
        entries.append(entry)
    return entries, arrays


def from_json(entries: list[dict[str, Any]], arrays: dict[str, np.ndarray]) -> tuple[Edit, ...]:
    """Read what `to_json` made; an unknown edit raises CorruptFile."""
    edits: list[Edit] = []
    for number, entry in enumerate(entries):
        kind = KINDS.get(entry["edit"])
        if kind is None:
            raise CorruptFile(f"the plan has an edit {entry['edit']!r} that this prunus does not know")
        same = entry.get("same", {})
        places = {f.name: same.get(f.name, f"edits/{number}/{f.name}") for f in fields(kind)}
        edits.append(kind(**{name: entry[name] if name in entry else arrays[at] for name, at in places.items()}))
    return tuple(edits)
