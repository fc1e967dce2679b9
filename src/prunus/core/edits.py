"""Edits: the only things a plan can do to a model besides keeping units. Loaders and deployment checks know these.

Arrays are numpy, float32 or float64. Names are those of the DENSE model.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
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
    """Replace a module by two thinner ones: y = u (v x).

    Linear: `v [rank, inputs]`, `u [outputs, rank]`. Convolution: the flattened weights of the first and second one, by the schemes of
    `maths.rank_parts`.
    """

    module: str
    u: np.ndarray
    v: np.ndarray
    scheme: str = "channel"


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


@dataclass(frozen=True, eq=False)
class Share:
    """A parameter reads an array that all Share edits of a plan share: scale * sign * array[place].

    Attributes:
        parameter: that gives up its own numbers.
        size: cells of the array.
        offset: of its first element in the flat order of all that share.
        seed: of places, signs and the start of the array.
        mapper, rule: as in `maths.sharing`.
        start: new or weights.
        settings: float64 `[2]`: its scale, and the half width of the array's start.
    """

    parameter: str
    size: int
    offset: int
    seed: int
    mapper: str
    rule: str
    start: str
    settings: np.ndarray


Edit = Share | SetWeight | AddBias | LowRank | Factor | Rotate | Scale | Untie | Transform | Bypass
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Share, SetWeight, AddBias, LowRank, Factor, Rotate, Scale, Untie, Transform, Bypass)
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
        same, held = entry.get("same", {}), {}
        for field in fields(kind):
            place = same.get(field.name, f"edits/{number}/{field.name}")
            if field.name in entry:
                held[field.name] = entry[field.name]
            elif field.default is MISSING or place in arrays:
                held[field.name] = arrays[place]
        edits.append(kind(**held))
    return tuple(edits)
