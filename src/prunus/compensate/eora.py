"""EoRA: a low-rank path beside a compressed matrix, fitted in the eigenspace of its inputs (Liu et al. 2024).

Removes: nothing; adds `rank * (inputs + outputs)` weights beside each matrix, after any mask or solver.
Needs: the hessian X X^T of the layer's inputs over calibration rows; no gradients.
Cost: one eigendecomposition of size `inputs` and one singular value decomposition of `outputs x inputs` for each matrix.
Departures: written from the formulas; the released code is non-commercial. The metric is the plain sum over all calibration tokens, where
 the released running mean lets early sequences decay; everything is in float64; eigenvalues are clamped at 1e-10 of the largest, so
 that inputs that are never on do no harm, where the released code divides by zero. Statistics come from one pass of the dense
 model, not block by block on compensated inputs. A layer that saw no input gets the plain decomposition. The path stays beside the
 matrix: merging it would fill the zeros. In the plan it is a LowRank edit, and its weights count as parameters.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from prunus.core.errors import BadInput, NonFinite
from prunus.core.registry import compensator
from prunus.maths.low_rank import low_rank


@compensator(unit="weights", needs=("weight", "hessian"), gives="low_rank", card="eora")
def eora(
    layer: Any, compressed: np.ndarray, *, rank: int = 64, space: Literal["eigen", "plain"] = "eigen"
) -> tuple[np.ndarray, np.ndarray]:
    """A low-rank path of one layer: y = compressed x + b (a x).

    Args:
        layer: `.weight [outputs, inputs]`, the dense one, and `.hessian [inputs, inputs]`.
        compressed: `[outputs, inputs]`, what is left of it.
        rank: of the path; min(outputs, inputs) gives the dense layer back.
        space: eigen, or plain for the singular value decomposition of the difference, which looks at no data.

    Returns:
        float64 `a [rank, inputs]` and `b [outputs, rank]`.

    Raises:
        BadInput: shapes that don't fit, a grouped convolution, or a rank below 1.
        NonFinite: the hessian, the weights or what is left of them hold NaN or infinity.
    """
    weight, rest = layer.weight.detach().double().cpu(), torch.from_numpy(np.asarray(compressed, dtype=np.float64))
    gram = layer.hessian
    if rest.shape != weight.shape or gram.shape != (weight.shape[1],) * 2:
        shapes = f"what is left, {list(rest.shape)}, and the hessian, {list(gram.shape)}, do not fit"
        raise BadInput(
            f"{layer.name} has weights {list(weight.shape)}: {shapes} (grouped convolutions have no low rank)"
        )
    if rank < 1:
        raise BadInput(f"rank is 1 or more, not {rank}")
    if not all(bool(torch.isfinite(part).all()) for part in (weight, rest, gram)):
        raise NonFinite(f"{layer.name}: weights or hessian hold NaN or infinity; look at its calibration activations")
    found = low_rank(weight - rest, rank, gram if space == "eigen" else None)
    return found.a.numpy(), found.b.numpy()
