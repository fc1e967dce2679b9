"""How many optimizer steps a training with changing rows has: what learning-rate schedules ask for beforehand."""

from __future__ import annotations

from typing import NamedTuple

from prunus.core.errors import BadInput
from prunus.rows.sampler import Sampler


class Steps(NamedTuple):
    """The fewest and the most optimizer steps; equal where no loss decides how many rows an epoch has."""

    least: int
    most: int


def scheduler_steps(
    sampler: Sampler, epochs: int, batch_size: int, *, drop_last: bool = False, accumulate: int = 1
) -> Steps:
    """Steps of `epochs` epochs of this rank, from epoch 0.

    A schedule that is made for `most` steps is not done where fewer come (its rate then ends above its last value);
    one that must end exactly goes by epochs: progress = (epoch + batch / len(loader)) / epochs, as `px.fit` does.

    Args:
        sampler: of this rank.
        epochs: of the training.
        batch_size: rows of a batch.
        drop_last: whether a last batch that is smaller is left out.
        accumulate: batches for one step; what is left at the end of an epoch makes a step of its own.
    """
    if epochs < 0 or batch_size < 1 or accumulate < 1:
        raise BadInput(f"can't count steps of {epochs} epochs, batches of {batch_size}, {accumulate} for a step")

    def steps(rows: int) -> int:
        share = sampler.share(rows)
        batches = share // batch_size if drop_last else -(-share // batch_size)
        return -(-batches // accumulate)

    bounds = [sampler.dynamic.bounds(t) for t in range(epochs)]
    return Steps(sum(steps(least) for least, _ in bounds), sum(steps(most) for _, most in bounds))
