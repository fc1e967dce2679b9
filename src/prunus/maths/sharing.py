"""Random parameter sharing: which cell of an array each weight reads, and what keeps training of the array stable.

The weights of all layers have one flat order; weight i reads cell h(i), times a sign, times a scale of its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from prunus.core.errors import BadInput, UnknownName
from prunus.core.rng import Rng

Mapper = Literal["fold", "hashed", "blocks"]
Rule = Literal["v1", "v2", "v3", "v4", "v5", "none"]
MAPPERS: tuple[str, ...] = get_args(Mapper)
RULES: tuple[str, ...] = get_args(Rule)
PRIME = 2038074743
EMPTY = 1e-3  # added to the number of uses, as released: a cell that nothing reads divides by it
Ints = NDArray[np.int64]


def drawn_numbers(seed: int) -> Ints:
    """Three multipliers below the prime, the first one odd; int64 `[3]`."""
    numbers = (Rng(seed, "parameter sharing").uniform(np.arange(3)) * (PRIME - 1)).astype(np.int64)
    numbers[0] |= 1
    return numbers


def signs_of(seed: int, offset: int, size: int) -> NDArray[np.float32]:
    """+1 or -1 for each weight, float32 `[size]`."""
    drawn = Rng(seed, "signs of shared parameters").uniform(np.arange(offset, offset + size))
    return np.where(drawn < 0.5, -1, 1).astype(np.float32)


def hashed(x: Ints, numbers: Ints, size: int, y: Ints | None = None) -> Ints:
    """((x R0 + x^2 R1 + R2) mod P) mod size; with two keys ((x R0 + y R1 + R2) mod P) mod size. Products wrap as int64 do."""
    second = x * x if y is None else y
    return (x * numbers[0] + second * numbers[1] + numbers[2]) % PRIME % size


def places(
    mapper: str, shape: Sequence[int], offset: int, size: int, numbers: Ints, *, block: tuple[int, int] = (32, 32)
) -> Ints:
    """Cells that the weights of one layer read.

    Args:
        mapper: fold: runs of `size` weights, each turned by a random amount, so that every cell is read equally often (STABLE-RPS);
            hashed: every weight on its own (HashedNet); blocks: tiles of the transposed matrix, each from a random start (ROAST).
        shape: of the weight.
        offset: of its first element in the flat order.
        size: of the array.
        numbers: of the hash, at least three.
        block: of a tile.

    Returns:
        int64 of the shape, in 0..size-1.
    """
    if mapper not in MAPPERS:
        raise UnknownName("mapper of shared parameters", mapper, MAPPERS)
    if size < 1:
        raise BadInput(f"the shared array needs a cell or more, not {size}")
    numbers = np.asarray(numbers, dtype=np.int64)
    flat = np.arange(offset, offset + int(np.prod(shape)), dtype=np.int64)
    if mapper == "hashed":
        return hashed(flat, numbers, size).reshape(shape)
    if mapper == "fold":
        fold, within = np.divmod(flat, size)
        return ((hashed(fold, numbers, size) + within) % size).reshape(shape)
    high, wide = block
    if size <= high * wide:
        raise BadInput(f"tiles of {high} x {wide} do not fit an array of {size}")
    turned = int(np.prod(shape[1:])), shape[0]
    row, column = np.divmod(np.arange(turned[0] * turned[1], dtype=np.int64).reshape(turned), turned[1])
    start = hashed(row // high + offset, numbers, size - high * wide, column // wide + offset + turned[0])
    return np.ascontiguousarray((start + row % high * wide + column % wide).T).reshape(shape)


def gradient_scale(layers: Sequence[tuple[Ints, float]], size: int, rule: str = "v1") -> NDArray[np.float64]:
    """What the gradient of each cell is divided by, so that weights move as far as unshared ones would.

    With n uses of a cell, s1 = sum of scales and s2 = sum of squared scales over them: v1 s1^2 / n (released default), v2 s1, v3 s1 / n,
    v4 sqrt(s2), v5 s2, none 1. Under v5 a step of the weights does not depend on the scale of the array; v1 is v5 where all scales of
    a cell are equal.

    Args:
        layers: (places, scale) of every layer that reads the array.
        size: of the array.
        rule: v1 to v5, or none.

    Returns:
        float64 `[size]`.
    """
    if rule not in RULES:
        raise UnknownName("rule of gradient scales", rule, RULES)
    if rule == "none":
        return np.ones(size)
    uses, first, second = np.zeros(size), np.zeros(size), np.zeros(size)
    for cells, scale in layers:
        found = np.bincount(cells.reshape(-1), minlength=size)
        uses, first, second = uses + found, first + scale * found, second + scale**2 * found
    return {
        "v1": first**2 / (uses + EMPTY), "v2": first, "v3": first / (uses + EMPTY), "v4": np.sqrt(second), "v5": second
    }[rule]  # fmt: skip
