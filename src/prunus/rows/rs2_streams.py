"""The streams of RS2: each hands out `count` positions an epoch from the permutations of its members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.random import RandomState

Positions = NDArray[np.int64]
Permute = Callable[[int], Positions]  # k -> the k-th permutation of 0..size-1
Tail = Literal["wrap", "drop", "official"]


class Stream(Protocol):
    """A source of epochs, to be advanced one by one."""

    def advance(self, t: int) -> Positions:
        """The positions of epoch `t`, which must be the next one unless the stream is Fresh with keyed draws."""
        ...


class Fresh:
    """With replacement over epochs: the first `count` of a new permutation each time."""

    def __init__(self, members: Positions, count: int, permute: Permute) -> None:
        self.members, self.count, self.permute = members, count, permute

    def advance(self, t: int) -> Positions:
        return self.members[self.permute(t)[: self.count]]


class Passes:
    """Without replacement: one permutation after the other, cut into epochs.

    wrap: a rest that is too short is filled from the next permutation with members that are not in the rest; those that
    are skipped stay in that permutation for the next epoch. drop: a rest that is too short is thrown away.
    """

    def __init__(self, members: Positions, count: int, permute: Permute, tail: Tail) -> None:
        self.members, self.count, self.permute, self.tail = members, count, permute, tail
        self.passes = 0
        self.rest: Positions = np.zeros(0, dtype=np.int64)

    def advance(self, t: int) -> Positions:
        if self.rest.size >= self.count:
            taken, self.rest = np.split(self.rest, [self.count])
            return self.members[taken]
        following = self.permute(self.passes)
        self.passes += 1
        if self.tail == "drop":
            taken, self.rest = np.split(following, [self.count])
            return self.members[taken]
        able = np.flatnonzero(~np.isin(following, self.rest))[: self.count - self.rest.size]
        taken = np.concatenate([self.rest, following[able]])
        self.rest = np.delete(following, able)
        return self.members[taken]


class Released:
    """Without replacement as released: an end pointer modulo n + 1.

    The epoch that wraps is one member short, takes its end from the start of the same permutation, and is followed by
    a reshuffle.
    """

    def __init__(self, members: Positions, count: int, permute: Permute) -> None:
        self.members, self.count, self.permute = members, count, permute
        self.passes, self.start, self.end = 0, 0, members.size
        self.order: Positions = np.zeros(0, dtype=np.int64)

    def advance(self, t: int) -> Positions:
        n = self.members.size
        if self.end < self.start or self.end == n:
            self.order = self.permute(self.passes)
            self.passes += 1
            self.start, self.end = 0, self.count
        else:
            self.start, self.end = self.end, (self.end + self.count) % (n + 1)
        if self.start < self.end:
            return self.members[self.order[self.start : self.end]]
        return self.members[np.concatenate([self.order[self.start :], self.order[: self.end]])]


def legacy_draws(generator: RandomState, size: int) -> Permute:
    """Permutations as numpy's legacy `choice(..., replace=False)` makes them: each from the identity."""
    return lambda _: generator.permutation(size).astype(np.int64)


def legacy_passes(generator: RandomState, size: int) -> Permute:
    """Permutations as repeated legacy in-place shuffles make them: each from the one before."""
    order = np.arange(size)

    def permute(_: int) -> Positions:
        generator.shuffle(order)
        return order.copy()

    return permute
