"""Samplers: a dynamic as a torch sampler, whose rows change from epoch to epoch under one DataLoader.

    sampler = Sampler(RS2(ids, fraction=0.1), ids, seed=0)
    loader = DataLoader(dataset, batch_size=128, sampler=sampler, num_workers=2, persistent_workers=True)
    for epoch in range(epochs):
        for batch in loader: ...

Every `iter` is one epoch: the loader and its workers stay, only the positions change. `len` is that of the epoch that
runs, or of the next one before it starts, so schedules that read `len(loader)` are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch.utils.data
from numpy.typing import ArrayLike, NDArray

from prunus.core.errors import BadInput, IdMismatch
from prunus.core.rng import uniform
from prunus.rows.dynamic import Dynamic, EpochPlan, Ids

STATE = 1


class Sampler(torch.utils.data.Sampler[int]):
    """Yields the dataset positions of a dynamic's rows, shuffled, one epoch for each `iter`."""

    def __init__(
        self,
        dynamic: Dynamic,
        ids: ArrayLike,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        uneven: Literal["keep", "drop", "pad"] = "keep",
    ) -> None:
        """Wire a dynamic to a dataset.

        Args:
            dynamic: chooses the ids of each epoch; must answer the same on every rank.
            ids: of the dataset's rows in dataset order, `[n]`.
            seed: of the order inside an epoch.
            shuffle: order the rows anew in each epoch; False keeps the order of the dynamic.
            rank, world_size: this process trains on every `world_size`-th row of the epoch.
            uneven: when the rows do not divide by world_size: keep (shards are disjoint and cover the epoch; lengths
                differ by 1, so gradients must be joined), drop (the last few rows go) or pad (the first few repeat).
        """
        if not 0 <= rank < world_size:
            raise BadInput(f"rank must lie in 0..{world_size - 1}, not {rank}")
        if uneven not in ("keep", "drop", "pad"):
            raise BadInput(f"uneven must be keep, drop or pad, not {uneven!r}")
        self.dynamic, self.seed, self.shuffle = dynamic, seed, shuffle
        self.rank, self.world_size, self.uneven = rank, world_size, uneven
        self._ids: Ids = np.asarray(ids)
        self._by_id = np.argsort(self._ids, kind="stable")
        self._sorted: Ids = self._ids[self._by_id]
        self.current = 0  # the epoch that runs, or the next one
        self._running, self._skip, self._given = False, 0, 0

    @property
    def plan(self) -> EpochPlan:
        """The plan of the epoch that runs, or of the next one: ids and loss weights of all ranks."""
        return self.dynamic.epoch(self.current)

    def __len__(self) -> int:
        rows = len(self.plan)
        if self.uneven == "drop":
            return rows // self.world_size
        extra = rows % self.world_size
        whole = rows // self.world_size
        return whole + (extra > 0 if self.uneven == "pad" else self.rank < extra)

    def __iter__(self) -> Iterator[int]:
        if self._running:  # the epoch before was left early
            self._finish()
        self._running, self._given = True, self._skip
        return self._walk(self.current, self._skip)

    def set_epoch(self, t: int) -> None:
        """Make `t` the next epoch (as torch's DistributedSampler); otherwise epochs follow each other."""
        self.current, self._running, self._skip, self._given = t, False, 0, 0

    def weights(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Loss weights of some ids of the current epoch, float32 `[k]`; ones when the plan has none."""
        wanted, plan = np.asarray(ids), self.plan
        if plan.weights is None:
            return np.ones(wanted.shape, dtype=np.float32)
        order = np.argsort(plan.ids, kind="stable")
        return plan.weights[order[_find(plan.ids[order], wanted, "the epoch")]]

    def state_dict(self, *, epoch: int | None = None, consumed: int | None = None) -> dict[str, Any]:
        """Where this rank is: epoch, rows done in it, and the dynamic's state.

        Args:
            epoch: the one in training. Needed with workers, which fetch ahead of training.
            consumed: rows this rank has trained on in that epoch; without workers, what was handed out.
        """
        done = (self._given if self._running else self._skip) if consumed is None else consumed
        head = {"schema": STATE, "epoch": self.current if epoch is None else epoch, "consumed": done, "seed": self.seed}
        return head | {"dynamic": self.dynamic.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next `iter` skips the rows done; `len` stays that of the epoch."""
        if state.get("schema") != STATE:
            raise BadInput(f"this prunus reads sampler states of schema {STATE}, not {state.get('schema')}")
        if state["seed"] != self.seed:
            raise BadInput(f"the state was saved with seed {state['seed']}, this sampler has {self.seed}")
        self.dynamic.load_state_dict(state["dynamic"])
        self.set_epoch(int(state["epoch"]))
        self._skip = int(state["consumed"])

    def positions(self, t: int) -> NDArray[np.int64]:
        """Dataset positions of this rank in epoch `t`, in training order, int64 `[m]`."""
        ids = self.dynamic.epoch(t).ids
        if self.shuffle:
            ids = ids[np.lexsort((ids, uniform(self.seed, f"sampler/{t}", ids)))]
        whole = ids.size // self.world_size * self.world_size
        if whole < ids.size and self.uneven == "drop":
            ids = ids[:whole]
        elif whole < ids.size and self.uneven == "pad":
            ids = np.concatenate([ids, np.resize(ids, whole + self.world_size - ids.size)])
        return self._by_id[_find(self._sorted, ids[self.rank :: self.world_size], "the dataset")]

    def _walk(self, t: int, skip: int) -> Iterator[int]:
        for position in self.positions(t)[skip:].tolist():
            self._given += 1
            yield position
        if self._running and self.current == t:
            self._finish()

    def _finish(self) -> None:
        self.set_epoch(self.current + 1)


class BatchSampler(torch.utils.data.BatchSampler):
    """Batches of a Sampler's positions; for DataLoader's `batch_sampler`."""

    sampler: Sampler

    def __init__(self, sampler: Sampler, batch_size: int, *, drop_last: bool = False) -> None:
        """Group positions.

        Args:
            sampler: yields positions.
            batch_size: rows of this rank in a batch.
            drop_last: leave out a last batch that is smaller (the released rs2 does, without replacement).
        """
        super().__init__(sampler, batch_size, drop_last)

    def set_epoch(self, t: int) -> None:
        """Make `t` the next epoch."""
        self.sampler.set_epoch(t)

    def state_dict(self, *, epoch: int | None = None, batches: int | None = None) -> dict[str, Any]:
        """As Sampler.state_dict, counted in batches trained on."""
        return self.sampler.state_dict(epoch=epoch, consumed=None if batches is None else batches * self.batch_size)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As Sampler.load_state_dict."""
        self.sampler.load_state_dict(state)


def _find(known: Ids, wanted: Ids, where: str) -> NDArray[np.int64]:
    """Positions of `wanted` in the sorted `known`."""
    place = np.searchsorted(known, wanted).clip(max=max(known.size - 1, 0))
    missing = np.flatnonzero(known[place] != wanted) if known.size else np.arange(wanted.size)
    if missing.size:
        raise IdMismatch(f"{missing.size} ids are not in {where}: {wanted[missing[:5]].tolist()}")
    return place
