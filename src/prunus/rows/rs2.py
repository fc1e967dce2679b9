"""RS2: a fresh random subset of the rows for every epoch (Okanovic et al. 2024). The control of every row method.

Removes: rows, other ones in every epoch.
Needs: ids only; labels for `balance`.
Cost: one sort of n hashes for each pass over the data (each epoch with `replace`), no model, memory 3 n integers.
Departures: draws are keyed hashes of (seed, pass or epoch, id): no generator to carry; resuming replays the passes.
  Where a permutation runs out inside an epoch, `tail="wrap"` fills up from the next permutation with rows that are
  not in the epoch yet, and those it skips stay for the next epoch: every epoch has m rows and every pass holds every
  row once. "drop" reshuffles when fewer than m are left. "official" is the released rule: it fills from the start of
  the same permutation, is one row short then, and reshuffles at once. `balance` meets m exactly by largest remainder
  and gives each label at least one row where m allows, in place of the released round(r n_c), under which small
  labels vanish, and of its option for extremely small data. `parity="official"` is the released code, its legacy
  generator included, bit for bit on positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunus.allocate.request import Request
from prunus.allocate.uniform import uniform as same_share
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.core.registry import dynamic
from prunus.core.rng import legacy_rng, shuffled, uniform
from prunus.rows import rs2_streams as streams
from prunus.rows.dynamic import EpochPlan, Ids, Rows, check_state
from prunus.rows.rs2_streams import Positions

if TYPE_CHECKING:
    from numpy.random import RandomState

STATE = 1


@dynamic(unit="rows", needs=(), card="rs2", name="rs2")
class RS2:
    """Random subsets, one for each epoch. Asking for an epoch again, or for an earlier one, gives the same rows."""

    def __init__(
        self,
        ids: ArrayLike,
        *,
        seed: int = 0,
        fraction: float = 0.1,
        count: int | None = None,
        replace: bool = False,
        tail: Literal["wrap", "drop", "official"] = "wrap",
        balance: bool = False,
        labels: ArrayLike | None = None,
        parity: Literal["paper", "official"] = "paper",
        permutations: Callable[[int, int], Positions] | None = None,
    ) -> None:
        """Check the options; draws nothing yet.

        Args:
            ids: of the rows, int or text `[n]`, unique. The subsets do not depend on their order, except under
                parity="official" or with `permutations`, which work on positions.
            seed: of the subsets; keep it apart from that of the model.
            fraction: share of the rows in each epoch; m = round(fraction * n), half to even.
            count: m itself, in place of fraction.
            replace: False = one permutation after the other (norepl); True = a draw from all rows each epoch (repl).
                The rows of one epoch are distinct in both.
            tail: what happens where a permutation runs out inside an epoch (replace=False): wrap, drop or official.
            balance: the same share of every label in every epoch.
            labels: `[n]`, for balance.
            parity: paper, or official for the released code with its legacy generator and its defects.
            permutations: `f(k, n)` -> the k-th permutation of 0..n-1, in place of the seed (without balance).

        Raises:
            BadInput: options that do not go together, ids or labels that do not fit.
            BudgetUnreachable: no row, or more rows than there are.
        """
        self._rows = Rows(ids)
        self.ids: Ids = self._rows.ids
        self.count = _count(self.ids.size, fraction, count)
        self.fraction = fraction if count is None else count / self.ids.size
        self.seed, self.replace, self.balance, self.parity = seed, replace, balance, parity
        self.tail: streams.Tail = "official" if parity == "official" else tail
        self._labels = _checked_labels(labels, self.ids) if balance else None
        self._permutations = permutations
        self._check_options()
        self._last: tuple[int, Positions] | None = None
        self._restart()

    def epoch(self, t: int) -> EpochPlan:
        """The rows of epoch `t`, counted from 0."""
        if t < 0:
            raise BadInput(f"epochs count from 0, not {t}")
        if self._last is None or self._last[0] != t:
            self._last = (t, self._advance_to(t))
        return EpochPlan(self.ids[self._last[1]])

    def size(self, t: int) -> int:
        """How many rows epoch `t` has."""
        least, most = self.bounds(t)
        return least if least == most else len(self.epoch(t))

    def bounds(self, t: int) -> tuple[int, int]:
        """The fewest and the most rows of an epoch: the same, but for the released wrap, which is one short."""
        if t < 0:
            raise BadInput(f"epochs count from 0, not {t}")
        if self.parity == "official" and self.balance:
            return len(self.epoch(t)), len(self.epoch(t))
        return self.count - (self.tail == "official" and not self.replace), self.count

    def seen(self, ids: Ids, loss: NDArray[np.floating]) -> None:
        """Nothing is learnt from losses."""

    def state_dict(self) -> dict[str, Any]:
        """Numbers and texts; the subsets themselves are drawn again."""
        return {"next": self._next, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, in the middle of a pass as well.

        Raises:
            IdMismatch: the state belongs to other rows.
            BadInput: it was made with other options or by a later prunus.
        """
        check_state(state, self._identity(), what="RS2")
        self._last = None
        self._restart()
        if state["next"] > 0:
            self.epoch(int(state["next"]) - 1)

    def stream_mask(self, ids: ArrayLike, t: int) -> NDArray[np.bool_]:
        """Which of some ids belong to epoch `t`, for data that can only be streamed; bool `[k]`.

        With replacement each row is in with probability `fraction`; without, the rows of a pass are dealt into
        round(1 / fraction) buckets and epoch `t` takes the next one. Sizes vary at random, by about sqrt(m).
        """
        ids = np.asarray(ids)
        if self.replace:
            return uniform(self.seed, f"rs2/stream/{t}", ids) < self.fraction
        buckets = max(round(1 / self.fraction), 1)
        dealt = np.floor(uniform(self.seed, f"rs2/stream/pass {t // buckets}", ids) * buckets)
        return dealt == t % buckets

    def _advance_to(self, t: int) -> Positions:
        keyed = self.parity == "paper" and self._permutations is None
        if t < self._next:
            self._restart()
        first = t if keyed and self.replace else self._next  # keyed draws with replacement need no replay
        parts: list[Positions] = []
        for number in range(first, t + 1):
            parts = [stream.advance(number) for stream in self._streams]
        self._next = t + 1
        return np.concatenate(parts)

    def _restart(self) -> None:
        self._next = 0
        generator = legacy_rng(self.seed)  # used by parity="official" only
        pools = [np.arange(self.ids.size)] if self._labels is None else _by_label(self._labels)
        counts = self._counts(pools)
        self._streams = [self._stream(k, pool, counts[k], generator) for k, pool in enumerate(pools)]

    def _counts(self, pools: list[Positions]) -> list[int]:
        if self.parity == "official" and self.balance:
            return [round(self.fraction * pool.size) for pool in pools]
        floor = 1 if self.count >= len(pools) else 0
        return same_share(Request.of([pool.size for pool in pools], self.count, floors=floor)).tolist()

    def _stream(self, number: int, pool: Positions, count: int, generator: RandomState) -> streams.Stream:
        permute = self._permute(number, pool, generator)
        if self.replace:
            return streams.Fresh(pool, count, permute)
        if self.tail == "official":
            return streams.Released(pool, count, permute)
        return streams.Passes(pool, count, permute, self.tail)

    def _permute(self, number: int, pool: Positions, generator: RandomState) -> streams.Permute:
        injected = self._permutations
        if injected is not None:
            return lambda k: _checked_permutation(injected(k, pool.size), pool.size)
        if self.parity == "official":
            make = streams.legacy_draws if self.replace else streams.legacy_passes
            return make(generator, pool.size)
        ids, kind = self.ids[pool], "epoch" if self.replace else "pass"
        return lambda k: shuffled(self.seed, f"rs2/{kind} {k}", ids)

    def _check_options(self) -> None:
        if self.tail not in ("wrap", "drop", "official") or self.parity not in ("paper", "official"):
            raise BadInput(
                f"tail is wrap, drop or official and parity paper or official, not {self.tail}, {self.parity}"
            )
        if self.balance and not self.replace and self.tail == "official":
            raise BadInput(
                "the released norepl has no balance (it ignores the option): use tail='wrap' or replace=True"
            )
        if self.balance and self._permutations is not None:
            raise BadInput("permutations can't be injected with balance=True: every label has its own")

    def _identity(self) -> dict[str, Any]:
        """What a state must agree with."""
        names = ("seed", "count", "replace", "tail", "balance", "parity")
        positional = self.parity == "official" or self._permutations is not None
        return {
            "schema": STATE,
            "n": self.ids.size,
            "rows": self._rows.fingerprint(self._labels, in_given_order=positional),
            "options": {name: getattr(self, name) for name in names},
        }


def _by_label(labels: NDArray[Any]) -> list[Positions]:
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _checked_labels(labels: ArrayLike | None, ids: Ids) -> NDArray[Any]:
    array = np.asarray(labels)
    if labels is None or array.shape != ids.shape:
        raise BadInput(
            f"balance=True needs one label for each of {ids.size} rows, not {None if labels is None else array.shape}"
        )
    return array


def _checked_permutation(order: ArrayLike, size: int) -> Positions:
    array = np.asarray(order, dtype=np.int64)
    if array.shape != (size,) or not np.array_equal(np.sort(array), np.arange(size)):
        raise BadInput(f"permutations(k, {size}) must return each of 0..{size - 1} once")
    return array


def _count(n: int, fraction: float, count: int | None) -> int:
    if count is None and not 0 < fraction <= 1:
        raise BadInput(f"fraction must lie in (0, 1], not {fraction}")
    rows = round(fraction * n) if count is None else count
    if not 1 <= rows <= n:
        raise BudgetUnreachable(
            f"an epoch of {rows} of {n} rows is not possible", nearest=f"{min(max(rows, 1), n)} rows"
        )
    return rows
