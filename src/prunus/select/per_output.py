"""Per output: weights compete only with those of the same output, which keeps its share (Sun et al. 2023).

Removes: weights.
Needs: a score `[outputs, inputs]`.
Cost: one partition of every line.
Departures: none where the count is a multiple of the outputs (Wanda's int(inputs * sparsity) zeros in each);
 otherwise the places left over go to the outputs whose next weight scores highest. Ties: the lower input goes first,
 as in the released stable sort.
"""

from __future__ import annotations

import numpy as np

from prunus.core.registry import selector
from prunus.core.score import GroupScore
from prunus.maths.partial import keep_largest
from prunus.select.per_group import as_lines, check_count


@selector(unit="weights", card="wanda")
def per_output(score: GroupScore, count: int) -> np.ndarray:
    """Keep the same number of inputs in every output.

    Args:
        score: values `[outputs, inputs]`.
        count: how many stay in the whole matrix.

    Returns:
        int64 flat positions that stay, sorted.
    """
    values = as_lines(score)
    check_count(score, count)
    outputs, inputs = values.shape
    each, over = divmod(count, outputs)
    counts = np.full(outputs, each)
    if over:
        following = np.partition(values, inputs - each - 1, axis=1)[:, inputs - each - 1]
        counts[keep_largest(following[None], over)[0]] += 1
    return np.flatnonzero(keep_largest(values, counts))
