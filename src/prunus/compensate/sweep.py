"""Sweep: removed columns push their error to the right, one after the other (SparseGPT's pass, used by SPA).

Removes: nothing; makes up for removed channels, neurons, heads.
Needs: the hessian X X^T of the reader's inputs.
Cost: two Cholesky factorisations, one inverse, one pass over the columns.
Departures: columns left of a removed one never change, so the result depends on the order of inputs and is worse than
 joint_ls.
"""

from __future__ import annotations

import numpy as np

from prunus.compensate.reader import Reader, as_matrix, from_matrix, need_hessian, removed_units
from prunus.core.edits import Edit, SetWeight
from prunus.core.registry import compensator
from prunus.maths.obs import sweep_update


@compensator(needs=("hessian",), card="spa")
def sweep(reader: Reader, dropped: np.ndarray, *, damp: float = 0.01, block: int = 128) -> tuple[Edit, ...]:
    """Weights after one left-to-right pass.

    Args:
        reader: `.weight [units, per_unit, outputs]`, `.hessian [units * per_unit, units * per_unit]`.
        dropped: int64, units that go.
        damp: share of the mean diagonal that is added to it; more when the factorisation fails.
        block: columns between two updates of the rest; speed only.

    Returns:
        one SetWeight of dense shape with zeros at what goes, or nothing where nothing goes.
    """
    removed = removed_units(reader, dropped)
    if not removed.any():
        return ()
    columns = removed.repeat_interleave(reader.weight.shape[1])
    new = sweep_update(as_matrix(reader), need_hessian(reader), columns, damp, block)
    return (SetWeight(reader.parameter, from_matrix(reader, new)),)
