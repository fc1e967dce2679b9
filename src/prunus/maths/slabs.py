"""Rows whose features are known: one simple (linear) feature and complex ones (slabs), each of which predicts the label alone.

From Shah et al. 2020. Coordinates are independent given the label, uniform inside each slab, in [-width, width]; `margin` is
the distance from 0 (linear) or half the gap between slabs. A network trained on them shows which feature it uses, and so
what pruning the network or the rows does to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput
from prunus.core.rng import Rng, uniform

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
SLABS = (3, 5, 7)
CENTRE = 0.75  # of five slabs: how often label 0 lies in the middle
INNER = 0.875  # of seven slabs: how often label 1 lies in the inner ones


@dataclass(frozen=True, eq=False)
class Slabs:
    """A data set of known features.

    Attributes:
        x: float32 `[n, d]`, rotated where that was asked for.
        y: int64 `[n]`, 0 or 1.
        kinds: `[d]`, what each coordinate is before the rotation: 1 linear, 3, 5 or 7 slabs, 0 noise.
        rotation: `[d, d]`, x = features @ rotation, or None.
        noisy: int64, rows whose linear feature points at the other label.
    """

    x: NDArray[np.float32]
    y: Labels
    kinds: tuple[int, ...]
    rotation: Floats | None
    noisy: Labels

    def columns(self, kind: int) -> tuple[int, ...]:
        """Coordinates of a kind: the block that `reliance` asks about."""
        return tuple(at for at, own in enumerate(self.kinds) if own == kind)


def slab_width(slabs: int, margin: float, width: float = 1.0) -> float:
    """Width of one slab of `slabs` in [-width, width] with gaps of 2 * margin between them."""
    if slabs not in SLABS:
        raise BadInput(f"there are features of 3, 5 or 7 slabs, not {slabs}")
    found = (2 * width - 2 * (slabs - 1) * margin) / slabs
    if not margin > 0 or found <= 0:
        raise BadInput(
            f"{slabs} slabs with a margin of {margin:g} do not fit into [-{width:g}, {width:g}]: margin above 0 and smaller"
        )
    return found


def linear_feature(labels: ArrayLike, draw: Floats, *, margin: float, width: float = 1.0) -> Floats:
    """(2 y - 1) (margin + (width - margin) draw), `[n]`.

    Args:
        labels: 0 or 1, `[n]`.
        draw: in [0, 1), `[n]`.
        margin, width: of the feature.
    """
    y = np.asarray(labels)
    if not 0 < margin < width:
        raise BadInput(f"a margin lies between 0 and the width {width:g}, not {margin:g}")
    return (2 * y - 1) * (margin + (width - margin) * draw)


def slab_feature(
    labels: ArrayLike, draws: Sequence[Floats], *, slabs: int, margin: float, width: float = 1.0
) -> Floats:
    """One value for each label in slabs that alternate between the labels, `[n]`.

    Args:
        labels: 0 or 1, `[n]`.
        draws: three of [0, 1), `[n]` each: place in the slab, side, which pair of slabs.
        slabs: 3, 5 or 7.
        margin, width: of the feature.
    """
    y, (inside, side, pair) = np.asarray(labels).astype(bool), draws
    w = slab_width(slabs, margin, width)
    starts = _starts(w, margin, slabs)  # inner end of the slabs on the positive side; the first is the centre
    likely = {3: 1.0, 5: 1.0, 7: INNER}[slabs]
    of_one = np.where(pair < likely, starts[1], starts[-1])
    centre = {3: 1.0, 5: CENTRE, 7: 0.5}[slabs]
    in_centre = ~y & (pair < centre)
    start = np.where(y, of_one, starts[2] if slabs > 3 else 0.0)
    sign = np.where(side < 0.5, -1.0, 1.0)
    return sign * np.where(in_centre, w / 2 * inside, start + w * inside)


def _starts(w: float, margin: float, slabs: int) -> list[float]:
    """Where the slabs on the positive side begin: the centre at 0, then every w + 2 margin."""
    return [0.0, *(w / 2 + 2 * margin + at * (w + 2 * margin) for at in range(slabs // 2))]


def nearest_label(values: ArrayLike, *, slabs: int, margin: float, width: float = 1.0) -> Labels:
    """The label of the slab nearest to each value: the rule by which one coordinate alone is always right.

    Args:
        values: `[n]`.
        slabs: 3, 5, 7; 1 for the linear feature.
        margin, width: of the feature.
    """
    found = np.asarray(values, dtype=np.float64)
    if slabs == 1:
        return (found > 0).astype(np.int64)
    w = slab_width(slabs, margin, width)
    return np.rint(np.abs(found) / (w + 2 * margin)).astype(np.int64) % 2


def support(
    values: ArrayLike, labels: ArrayLike, *, slabs: int, margin: float, width: float = 1.0
) -> NDArray[np.bool_]:
    """bool `[n]`: whether a value lies where its label may.

    Args:
        values, labels: `[n]`.
        slabs: 3, 5, 7; 1 for the linear feature.
        margin, width: of the feature.
    """
    x, y = np.asarray(values, dtype=np.float64), np.asarray(labels)
    slack = 1e-6 * width  # values are stored as float32
    if slabs == 1:
        return ((2 * y - 1) * x >= margin - slack) & (np.abs(x) <= width + slack)
    w = slab_width(slabs, margin, width)
    number = np.rint(np.abs(x) / (w + 2 * margin))
    inside = np.abs(np.abs(x) - number * (w + 2 * margin)) <= w / 2 + slack
    return inside & (number <= slabs // 2) & (number.astype(np.int64) % 2 == y)


def slab_data(
    rows: int, kinds: Sequence[int], *, margins: tuple[float, float] = (0.1, 0.1), width: float = 1.0, noise: float = 0.0,
    rotate: bool = False, seed: int = 0,
) -> Slabs:  # fmt: skip
    """Rows with these features.

    Args:
        rows: n.
        kinds: of each coordinate: 1 linear, 3, 5 or 7 slabs, 0 noise, uniform in [0, width).
        margins: of linear features and of slabs.
        width: of all.
        noise: share of rows whose linear features point at the other label.
        rotate: turn the input space, so that no coordinate is a feature.
        seed: of everything.
    """
    if unknown := [kind for kind in kinds if kind not in (0, 1, *SLABS)]:
        raise BadInput(f"a coordinate is 0 (noise), 1 (linear), 3, 5 or 7 slabs, not {unknown[0]}")
    if not 0 <= noise < 1 or rows < 1 or not kinds:
        raise BadInput(
            f"rows and coordinates of 1 or more and noise in [0, 1) are needed, not {rows}, {len(kinds)}, {noise}"
        )
    ids, rng = np.arange(rows), Rng(seed, "slabs")

    def draw(what: str) -> Floats:
        return uniform(seed, f"slabs/{what}", ids)

    y = (draw("label") < 0.5).astype(np.int64)
    noisy = rng.child("noise").sample(ids, round(noise * rows))
    pointed = y.copy()
    pointed[noisy] = 1 - pointed[noisy]
    x = np.stack([_coordinate(kind, at, y, pointed, draw, margins, width) for at, kind in enumerate(kinds)], 1)
    turn = _orthogonal(len(kinds), rng) if rotate else None
    return Slabs((x if turn is None else x @ turn).astype(np.float32), y, tuple(kinds), turn, noisy)


def lms(rows: int, slabs: int, dim: int, **settings: object) -> Slabs:
    """LMS-k: coordinate 0 linear, the others k-slab features; settings of `slab_data`."""
    return slab_data(rows, (1, *(slabs,) * (dim - 1)), **settings)  # type: ignore[arg-type]


def ms57(rows: int, dim: int, **settings: object) -> Slabs:
    """MS-(5,7): coordinate 0 five slabs, the others seven; settings of `slab_data`."""
    return slab_data(rows, (5, *(7,) * (dim - 1)), **settings)  # type: ignore[arg-type]


def _coordinate(
    kind: int,
    at: int,
    y: Labels,
    pointed: Labels,
    draw: Callable[[str], Floats],
    margins: tuple[float, float],
    width: float,
) -> Floats:
    inside = draw(f"{at}/inside")
    if kind == 0:
        return width * inside
    if kind == 1:
        return linear_feature(pointed, inside, margin=margins[0], width=width)
    draws = inside, draw(f"{at}/side"), draw(f"{at}/pair")
    return slab_feature(y, draws, slabs=kind, margin=margins[1], width=width)


def _orthogonal(dim: int, rng: Rng) -> Floats:
    """A rotation drawn evenly over all: QR of normal numbers with the signs of R taken out."""
    import torch

    q, r = np.linalg.qr(torch.randn(dim, dim, generator=rng.child("rotation").torch(), dtype=torch.float64).numpy())
    return q * np.sign(np.diagonal(r))
