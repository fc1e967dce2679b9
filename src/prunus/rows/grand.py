"""GraNd: norm of the gradient of one row's loss over all parameters (Paul et al. 2021).

Removes: rows. Large is hard.
Needs: grad_norm, the norm of the gradient of cross-entropy of one row at a time, eval mode, no weight decay.
Cost: one backward pass for each row (the signal never holds n gradients); O(n) here.
Departures: at initialisation the score follows the norm of the input, and the published result for epoch 0 could not
  be reproduced by a later study: use a few epochs of training. The cheap form over the last layer is
  `rows/grand_last_layer`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion


@criterion(unit="rows", needs=("grad_norm",), sense="hard", card="data-diet")
def grand(s: Any) -> Tensor:
    """`||grad of the loss of one row||_2`, `[n]`, at least 0.

    Args:
        s: signals with `grad_norm [n]`.
    """
    return s.grad_norm
