"""Mean bias: what removed inputs gave on average becomes a bias of their reader (An et al. 2023, FLAP).

Removes: nothing; makes up for removed channels, neurons, heads, tokens of a constant.
Needs: the mean of every input over calibration data.
Cost: one matrix-vector product for each reader.
Departures: means are kept in the precision of the weights; the released code stores them in half precision.
"""

from __future__ import annotations

import numpy as np
import torch

from prunus.compensate.reader import Reader, as_matrix, finite, removed_units
from prunus.core.edits import AddBias, Edit
from prunus.core.errors import BadInput
from prunus.core.registry import compensator


@compensator(needs=("input_mean",), card="flap")
def mean_bias(reader: Reader, dropped: np.ndarray) -> tuple[Edit, ...]:
    """A bias of W[:, dropped] @ mean[dropped].

    Args:
        reader: `.weight [units, per_unit, outputs]`, `.input_mean [units, per_unit]`.
        dropped: int64, units that go.

    Returns:
        one AddBias, or nothing where nothing goes.
    """
    removed = removed_units(reader, dropped)
    if not removed.any():
        return ()
    if reader.input_mean is None:
        raise BadInput(f"{reader.parameter} has no input mean: collect the signal input_mean")
    columns = removed.repeat_interleave(reader.weight.shape[1])
    weight = as_matrix(reader)[:, columns].double()
    bias = weight @ finite(reader, "input_mean", reader.input_mean).reshape(-1)[columns].double()
    kind = torch.float64 if reader.weight.dtype == torch.float64 else torch.float32
    return (AddBias(reader.module, bias.to(kind).cpu().numpy()),)
