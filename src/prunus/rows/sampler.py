"""Samplers: a dynamic as a torch sampler, whose rows change from epoch to epoch under one DataLoader.

    dynamic = InfoBatch(data.ids, epochs=epochs, seed=0)
    sampler = Sampler(dynamic, data.ids, seed=0)
    loader = DataLoader(data, batch_size=128, sampler=sampler, num_workers=2, persistent_workers=True)
    for epoch in range(epochs):
        for ids, x, y in loader:
            losses = cross_entropy(model(x), y, reduction="none")
            loss = sampler.loss(ids, losses)  # tells the dynamic, and is the weighted mean to go backward from

Every `iter` is one epoch: the loader and its workers stay, only the positions change. `len` is that of the epoch that
runs, or of the next one before it starts, so schedules that read `len(loader)` are right. Everything goes by id: batches
may come back in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import Any, Literal

import numpy as np
import torch.utils.data
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prunus.core.errors import BadInput, IdMismatch
from prunus.core.rng import shuffled
from prunus.rows.dynamic import Dynamic, EpochPlan, Ids, Rows, check_losses
from prunus.rows.ranks import gathered
from prunus.train.step import as_ids

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
        data: Sized | None = None,
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
            data: the dataset itself; its length is then compared with the ids before each epoch.

        Raises:
            BadInput: options that can't be; "keep" over several ranks for a dynamic that reads losses, because ranks
                meet at every batch and must have equally many.
        """
        if not 0 <= rank < world_size:
            raise BadInput(f"rank must lie in 0..{world_size - 1}, not {rank}")
        if uneven not in ("keep", "drop", "pad"):
            raise BadInput(f"uneven must be keep, drop or pad, not {uneven!r}")
        self._reads = bool(getattr(dynamic, "reads_losses", False))
        if self._reads and world_size > 1 and uneven == "keep":
            raise BadInput(f"{world_size} ranks share their losses at every batch: set uneven to 'drop' or 'pad'")
        self.dynamic, self.seed, self.shuffle = dynamic, seed, shuffle
        self.rank, self.world_size, self.uneven = rank, world_size, uneven
        self._rows, self._data = Rows(ids), data
        self.current = 0  # the epoch that runs, or the next one
        self._running, self._skip, self._given = False, 0, 0
        self._weights: tuple[int, NDArray[np.float32] | None] | None = (
            None  # by rank of the id, of the epoch begun last
        )
        self._check_length()

    @property
    def plan(self) -> EpochPlan:
        """The plan of the epoch that runs, or of the next one: ids and loss weights of all ranks."""
        return self.dynamic.epoch(self.current)

    def __len__(self) -> int:
        return self.share(self.dynamic.size(self.current))

    def share(self, rows: int) -> int:
        """Rows of this rank in an epoch of so many."""
        whole, extra = divmod(rows, self.world_size)
        if self.uneven == "drop":
            return whole
        return whole + (extra > 0 if self.uneven == "pad" else self.rank < extra)

    def __iter__(self) -> Iterator[int]:
        if self._running:  # the epoch before was left early
            self._finish()
        self._check_length()
        positions, skip = self.positions(self.current), self._skip
        self._weigh(self.current)
        self._running, self._given = True, skip
        return self._walk(self.current, positions[skip:])

    def set_epoch(self, t: int) -> None:
        """Make `t` the next epoch (as torch's DistributedSampler); otherwise epochs follow each other."""
        if t == self.current and self._running:
            return
        if t != self.current:
            self._go_to(t)
        self._weights = None

    def loss(self, ids: Any, losses: Tensor) -> Tensor:
        """What a step goes backward from: the mean of weight times loss, over the rows of the batch. Reports the losses.

        Args:
            ids: `[B]` of the rows, in the order of the losses.
            losses: float `[B]` of each row, with its graph.

        Raises:
            BadInput: losses without ids, or not one for each id.
            IdMismatch: ids that are not in the dataset, or not in this epoch.
            NonFinite: names the rows whose loss is NaN or infinite (on all ranks, if on any).
        """
        wanted = as_ids(ids)
        self.seen(wanted, losses)
        factors = self._factors(wanted)
        if factors is None:
            return losses.mean()
        return (losses * torch.from_numpy(factors).to(losses)).mean()

    def seen(self, ids: Any, losses: Any) -> None:
        """Report the losses of a batch to the dynamic, those of all ranks; `loss` does it too. See there for errors."""
        values = losses.detach().float().cpu().numpy() if isinstance(losses, Tensor) else np.asarray(losses, np.float32)
        wanted = check_losses(as_ids(ids), values)
        if self._reads and self.world_size > 1:
            ranks, values = gathered(self._rows.ranks(wanted), values)
            wanted = self._rows.sorted[ranks]
        self.dynamic.seen(wanted, values)

    def weights(self, ids: Any) -> NDArray[np.float32]:
        """Loss weights of some ids of the epoch begun last, float32 `[k]`; ones when its plan has none.

        Raises:
            IdMismatch: ids that are not in the epoch.
        """
        wanted = np.asarray(as_ids(ids))
        factors = self._factors(wanted)
        return np.ones(wanted.shape, dtype=np.float32) if factors is None else factors

    def state_dict(self, *, epoch: int | None = None, consumed: int | None = None) -> dict[str, Any]:
        """Where this rank is: epoch, rows done in it, and the dynamic's state.

        Args:
            epoch: the one in training. Needed with workers, which fetch ahead of training.
            consumed: rows this rank has trained on in that epoch; without workers, what was handed out.
        """
        done = (self._given if self._running else self._skip) if consumed is None else consumed
        head = {"schema": STATE, "epoch": self.current if epoch is None else epoch, "consumed": done, "seed": self.seed}
        return head | {"world_size": self.world_size, "dynamic": self.dynamic.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next `iter` skips the rows done; `len` stays that of the epoch.

        Raises:
            BadInput: another seed, or another number of ranks in the middle of an epoch; the message has both values.
            IdMismatch: other rows, or another number of them.
        """
        if state.get("schema") != STATE:
            raise BadInput(f"this prunus reads sampler states of schema {STATE}, not {state.get('schema')}")
        if state["seed"] != self.seed:
            raise BadInput(f"the state was saved with seed {state['seed']}, this sampler has {self.seed}")
        saved = state.get("world_size", self.world_size)
        if saved != self.world_size and state["consumed"]:
            raise BadInput(f"an epoch begun by {saved} ranks can't go on with {self.world_size}: save between epochs")
        self.dynamic.load_state_dict(state["dynamic"])
        self.current, self._running, self._given = int(state["epoch"]), False, 0
        self._skip, self._weights = int(state["consumed"]), None

    def positions(self, t: int) -> NDArray[np.int64]:
        """Dataset positions of this rank in epoch `t`, in training order, int64 `[m]`."""
        ids = self.dynamic.epoch(t).ids
        if self.shuffle:
            ids = ids[shuffled(self.seed, f"sampler/{t}", ids)]
        whole = ids.size // self.world_size * self.world_size
        if whole < ids.size and self.uneven == "drop":
            ids = ids[:whole]
        elif whole < ids.size and self.uneven == "pad":
            ids = np.concatenate([ids, np.resize(ids, whole + self.world_size - ids.size)])
        return self._rows.positions(self._rows.ranks(ids[self.rank :: self.world_size]))

    def _weigh(self, t: int) -> None:
        """Make the table of loss weights of epoch `t`: NaN for the rows outside."""
        plan, table = self.dynamic.epoch(t), None
        if plan.weights is not None:
            table = np.full(len(self._rows), np.nan, dtype=np.float32)
            table[self._rows.ranks(plan.ids)] = plan.weights
        self._weights = t, table

    def _factors(self, wanted: Ids | None) -> NDArray[np.float32] | None:
        if self._weights is None:
            self._weigh(self.current)
        assert self._weights is not None
        t, table = self._weights
        if table is None or wanted is None:
            return None
        factors = table[self._rows.ranks(wanted)]
        outside = np.isnan(factors)
        if outside.any():
            raise IdMismatch(f"{int(outside.sum())} ids are not in epoch {t}: {wanted[outside][:5].tolist()}")
        return factors

    def _check_length(self) -> None:
        if self._data is not None and len(self._data) != len(self._rows):
            raise BadInput(
                f"the dataset has {len(self._data)} rows, the ids are {len(self._rows)}: a dataset must not change its "
                "length between epochs; make a new sampler (and dynamic) for the new one"
            )

    def _walk(self, t: int, positions: NDArray[np.int64]) -> Iterator[int]:
        for position in positions.tolist():
            self._given += 1
            yield position
        if self._running and self.current == t:
            self._finish()

    def _finish(self) -> None:
        self._go_to(self.current + 1)  # weights stay: the last batches may still be on their way to the loss

    def _go_to(self, t: int) -> None:
        self.current, self._running, self._skip, self._given = t, False, 0, 0


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
