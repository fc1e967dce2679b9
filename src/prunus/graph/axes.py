"""The algebra of dimensions.

A dimension of a tensor is a leaf (`Axis`), a product of dimensions (`Prod`, last factor fastest) or a concatenation
(`Cat`). Leaves are unknowns: unifying two dimensions binds leaves until both have the same structure, so that
"position p is kept" means the same on both sides. What cannot be matched is frozen: kept whole, with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import prod

import numpy as np

_SERIAL = count()
EXPLODE = 64  # an outer factor longer than this is frozen rather than written out as a concatenation


class Axis:
    """A leaf: `size` units that are kept or dropped on their own. `bound` is what it turned out to be."""

    __slots__ = ("bound", "frozen", "marks", "serial", "size")

    def __init__(self, size: int, frozen: str = "") -> None:
        self.size = size
        self.frozen = frozen
        self.bound: Dim | None = None
        self.marks: frozenset[str] = frozenset()
        self.serial = next(_SERIAL)

    def __repr__(self) -> str:
        return f"<{self.size}{'!' if self.frozen else ''} #{self.serial}>"


@dataclass(frozen=True, slots=True, eq=False)
class Prod:
    """All combinations of the factors' positions, the last factor running fastest."""

    factors: tuple[Dim, ...]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Cat:
    """The positions of the parts one after the other."""

    parts: tuple[Dim, ...]
    size: int


Dim = Axis | Prod | Cat


def product(factors: Sequence[Dim]) -> Dim:
    """Product of dimensions in normal form: flat, without factors of size 1."""
    flat: list[Dim] = []
    for factor in factors:
        item = resolve(factor)
        if item.size != 1:
            flat.extend(item.factors if isinstance(item, Prod) else (item,))
    if len(flat) == 1:
        return flat[0]
    return Prod(tuple(flat), prod(item.size for item in flat)) if flat else Axis(1)


def concat(parts: Sequence[Dim]) -> Dim:
    """Concatenation in normal form: flat, neighbouring frozen parts joined."""
    flat: list[Dim] = []
    for part in parts:
        item = resolve(part)
        for piece in item.parts if isinstance(item, Cat) else (item,):
            last = flat[-1] if flat else None
            if isinstance(piece, Axis) and isinstance(last, Axis) and piece.frozen and last.frozen:
                flat[-1] = Axis(last.size + piece.size, last.frozen)
            elif piece.size:
                flat.append(piece)
    if len(flat) == 1:
        return flat[0]
    return Cat(tuple(flat), sum(item.size for item in flat))


def resolve(dim: Dim) -> Dim:
    """The dimension with every bound leaf replaced by what it is bound to."""
    if isinstance(dim, Axis):
        if dim.bound is None:
            return dim
        dim.bound = resolve(dim.bound)
        return dim.bound
    if isinstance(dim, Prod):
        return dim if _settled(dim.factors) else product(dim.factors)
    return dim if _settled(dim.parts) else concat(dim.parts)


def _settled(items: tuple[Dim, ...]) -> bool:
    return all(item.bound is None if isinstance(item, Axis) else resolve(item) is item for item in items)


def leaves(dim: Dim) -> Iterator[Axis]:
    """Every leaf of a dimension, left to right."""
    item = resolve(dim)
    if isinstance(item, Axis):
        yield item
    else:
        for part in item.factors if isinstance(item, Prod) else item.parts:
            yield from leaves(part)


def freeze(dim: Dim, reason: str) -> None:
    """Keep a dimension whole from now on; leaves that are frozen already keep their first reason."""
    for leaf in leaves(dim):
        if not leaf.frozen:
            leaf.frozen = reason


def is_frozen(dim: Dim) -> bool:
    """True if no unit of the dimension can be dropped."""
    return all(leaf.frozen or leaf.size == 1 for leaf in leaves(dim))


def reason_of(dim: Dim) -> str:
    """The first reason why a dimension is frozen, or an empty text."""
    return next((leaf.frozen for leaf in leaves(dim) if leaf.frozen), "")


def mark(dim: Dim, name: str) -> None:
    """Note on every leaf what it is, for the names of groups (head, dim)."""
    for leaf in leaves(dim):
        leaf.marks |= {name}


def _bind(leaf: Axis, dim: Dim) -> None:
    if any(other is leaf for other in leaves(dim)):
        freeze(dim, f"an axis of {leaf.size} units is tied to a part of itself")
        leaf.frozen = leaf.frozen or f"an axis of {leaf.size} units is tied to a part of itself"
        return
    if leaf.frozen:
        freeze(dim, leaf.frozen)
    for name in leaf.marks:
        mark(dim, name)
    leaf.bound = dim


def unify(a: Dim, b: Dim, why: str) -> None:
    """Make two dimensions of equal size the same; a part that cannot be matched is frozen with `why`."""
    a, b = resolve(a), resolve(b)
    if a is b or a.size == 1 == b.size:
        return
    if a.size != b.size:
        freeze(a, why)
        freeze(b, why)
    elif isinstance(a, Axis) and a.frozen:
        freeze(b, a.frozen)
    elif isinstance(b, Axis) and b.frozen:
        freeze(a, b.frozen)
    elif isinstance(a, Axis) and isinstance(b, Axis):
        _bind(*((a, b) if a.serial > b.serial else (b, a)))  # the older leaf stays: the leaves of groups are stable
    elif isinstance(a, Axis):
        _bind(a, b)
    elif isinstance(b, Axis):
        _bind(b, a)
    elif isinstance(a, Cat) or isinstance(b, Cat):
        _unify_parts(a, b, why)
    else:
        _unify_factors(a, b, why)


def _unify_factors(a: Prod, b: Prod, why: str) -> None:
    left, right = [a], [b]
    first: list[Dim] = list(left)
    second: list[Dim] = list(right)
    while first and second:
        x, y = resolve(first.pop()), resolve(second.pop())
        if isinstance(x, Prod) or isinstance(y, Prod):
            first.extend(x.factors if isinstance(x, Prod) else (x,))
            second.extend(y.factors if isinstance(y, Prod) else (y,))
        elif x.size == y.size:
            unify(x, y, why)
        elif max(x.size, y.size) % min(x.size, y.size):
            for rest in (x, y, *first, *second):
                freeze(rest, why)
            return
        elif x.size > y.size:
            outer, inner = split(x, y.size, why)
            first.append(outer)
            unify(inner, y, why)
        else:
            outer, inner = split(y, x.size, why)
            second.append(outer)
            unify(x, inner, why)


def _parts(dim: Dim) -> tuple[Dim, ...]:
    return dim.parts if isinstance(dim, Cat) else (dim,)


def _unify_parts(a: Dim, b: Dim, why: str) -> None:
    first, second = deque(_parts(a)), deque(_parts(b))
    while first and second:
        x, y = resolve(first.popleft()), resolve(second.popleft())
        if isinstance(x, Cat) or isinstance(y, Cat):
            first.extendleft(reversed(_parts(x)))
            second.extendleft(reversed(_parts(y)))
        elif x.size == y.size:
            unify(x, y, why)
        elif x.size < y.size:
            head, tail = cut(y, x.size, why)
            unify(x, head, why)
            second.appendleft(tail)
        else:
            head, tail = cut(x, y.size, why)
            unify(head, y, why)
            first.appendleft(tail)


def _pieces(*sizes: int, like: Dim) -> tuple[Dim, ...]:
    return tuple(Axis(size, reason_of(like)) for size in sizes)


def split(dim: Dim, inner: int, why: str) -> tuple[Dim, Dim]:
    """Write a dimension as outer x inner, where `inner` divides its size."""
    dim = resolve(dim)
    outer = dim.size // inner
    if inner == 1 or outer == 1:
        return (dim, Axis(1)) if inner == 1 else (Axis(1), dim)
    if isinstance(dim, Axis):
        if dim.frozen:
            left, right = _pieces(outer, inner, like=dim)
            return left, right
        left, right = Axis(outer), Axis(inner)
        _bind(dim, product((left, right)))
        return left, right
    return _split_prod(dim, inner, why) if isinstance(dim, Prod) else _split_cat(dim, inner, why)


def _split_prod(dim: Prod, inner: int, why: str) -> tuple[Dim, Dim]:
    right: list[Dim] = []
    left = list(dim.factors)
    need = inner
    while need > 1:
        factor = left.pop()
        if need % factor.size == 0:
            right.insert(0, factor)
            need //= factor.size
        elif factor.size % need == 0:
            outer, piece = split(factor, need, why)
            left.append(outer)
            right.insert(0, piece)
            need = 1
        else:
            freeze(dim, why)
            pieces = _pieces(dim.size // inner, inner, like=dim)
            return pieces[0], pieces[1]
    return product(left), product(right)


def _split_cat(dim: Cat, inner: int, why: str) -> tuple[Dim, Dim]:
    outers: list[Dim] = []
    inners: list[Dim] = []
    queue = deque(dim.parts)
    while queue:
        part = resolve(queue.popleft())
        if part.size % inner == 0:
            outer, piece = split(part, inner, why)
            outers.append(outer)
            inners.append(piece)
            continue
        if part.size > inner:  # cut off the whole rows first, the remainder joins the next part
            head, tail = cut(part, part.size - part.size % inner, why)
            queue.extendleft((tail, head))
            continue
        row = [part]
        while sum(item.size for item in row) < inner:
            item = resolve(queue.popleft())
            missing = inner - sum(other.size for other in row)
            if item.size > missing:
                item, rest = cut(item, missing, why)
                queue.appendleft(rest)
            row.append(item)
        outers.append(Axis(1))
        inners.append(concat(row))
    for other in inners[1:]:
        unify(inners[0], other, why)
    return concat(outers), resolve(inners[0])


def cut(dim: Dim, at: int, why: str) -> tuple[Dim, Dim]:
    """Write a dimension as two parts, the first of size `at` (0 < at < size)."""
    dim = resolve(dim)
    if isinstance(dim, Axis):
        head, tail = _pieces(at, dim.size - at, like=dim)
        if not dim.frozen:
            _bind(dim, concat((head, tail)))
        return head, tail
    if isinstance(dim, Cat):
        return _cut_cat(dim, at, why)
    inner = dim.size // dim.factors[0].size
    if at % inner == 0:
        head, tail = cut(dim.factors[0], at // inner, why)
        return product((head, *dim.factors[1:])), product((tail, *dim.factors[1:]))
    if dim.factors[0].size <= EXPLODE:
        freeze(dim.factors[0], why)
        return cut(concat([product(dim.factors[1:])] * dim.factors[0].size), at, why)
    freeze(dim, why)
    head, tail = _pieces(at, dim.size - at, like=dim)
    return head, tail


def _cut_cat(dim: Cat, at: int, why: str) -> tuple[Dim, Dim]:
    done = 0
    for position, part in enumerate(dim.parts):
        if done + part.size > at:
            head, tail = list(dim.parts[:position]), list(dim.parts[position:])
            if done < at:
                first, second = cut(part, at - done, why)
                head, tail = [*head, first], [second, *dim.parts[position + 1 :]]
            return concat(head), concat(tail)
        done += part.size
    raise AssertionError("cut outside the dimension")


def narrow(dim: Dim, start: int, stop: int, why: str) -> Dim:
    """The part of a dimension from `start` to `stop`."""
    dim = resolve(dim)
    if isinstance(dim, Axis) and dim.frozen:
        return Axis(stop - start, dim.frozen)
    if stop < dim.size:
        dim = cut(dim, stop, why)[0]
    return cut(dim, start, why)[1] if start > 0 else dim


def strided(dim: Dim, start: int, count: int, step: int, why: str) -> Dim:
    """Every `step`-th position from `start`, `count` of them."""
    dim = resolve(dim)
    if step == 1:
        return narrow(dim, start, start + count, why)
    first = start - start % step
    if dim.size % step == 0 and first + count * step <= dim.size and not is_frozen(dim):
        outer, inner = split(dim, step, why)
        narrow(inner, start % step, start % step + 1, why)
        return narrow(outer, first // step, first // step + count, why)
    freeze(dim, why)
    return Axis(count, reason_of(dim) or why)


def size_of(dim: Dim, sizes: Mapping[Axis, int]) -> int:
    """Size of a dimension when the given leaves have new sizes."""
    dim = resolve(dim)
    if isinstance(dim, Axis):
        return sizes.get(dim, dim.size)
    if isinstance(dim, Prod):
        return prod(size_of(factor, sizes) for factor in dim.factors)
    return sum(size_of(part, sizes) for part in dim.parts)


def mask_of(dim: Dim, keep: Mapping[Axis, np.ndarray]) -> np.ndarray:
    """Which positions [size] stay, given the kept mask [size of the leaf] of some leaves."""
    dim = resolve(dim)
    if isinstance(dim, Axis):
        known = keep.get(dim)
        return np.ones(dim.size, dtype=bool) if known is None else known
    if isinstance(dim, Cat):
        return np.concatenate([mask_of(part, keep) for part in dim.parts])
    result = np.ones(1, dtype=bool)
    for factor in dim.factors:
        result = np.logical_and.outer(result, mask_of(factor, keep)).reshape(-1)
    return result


def units_of(dim: Dim, leaf: Axis) -> np.ndarray:
    """Unit of `leaf` that owns each position [size], -1 where it owns none."""
    dim = resolve(dim)
    if isinstance(dim, Axis):
        return np.arange(dim.size) if dim is leaf else np.full(dim.size, -1)
    if isinstance(dim, Cat):
        return np.concatenate([units_of(part, leaf) for part in dim.parts])
    result = np.full(1, -1)
    for factor in dim.factors:
        result = np.maximum.outer(result, units_of(factor, leaf)).reshape(-1)
    return result


def index_of(dim: Dim, leaf: Axis) -> np.ndarray:
    """Positions owned by each unit of `leaf`: int64 [units, per_unit]."""
    units = units_of(dim, leaf)
    owned = np.flatnonzero(units >= 0)
    order = owned[np.argsort(units[owned], kind="stable")]
    return order.reshape(leaf.size, -1).astype(np.int64)
