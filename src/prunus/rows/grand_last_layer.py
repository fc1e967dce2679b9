"""GraNd of the last layer: gradient norm of the final linear layer, in closed form (Paul et al. 2021).

Removes: rows. Large is hard.
Needs: probabilities, labels, and the features that enter the final linear layer.
Cost: one forward pass; O(n (c + d)).
Departures: exact for cross-entropy over a final linear layer with bias: the gradient is the outer product of p - y
  with (h, 1), whose norm is the product of the norms. A criterion of its own, not an option of grand, because it
  needs other signals.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real, soft


@criterion(unit="rows", needs=("probs", "labels", "embedding"), sense="hard", card="data-diet")
def grand_last_layer(s: Any, *, bias: bool = True) -> Tensor:
    """`||p - y||_2 * sqrt(1 + ||h||^2)`, `[n]`.

    Args:
        s: signals with `probs [n, c]`, `labels` and `embedding [n, d]`.
        bias: whether the final layer has a bias.
    """
    probs, features = real(s.probs), real(s.embedding)
    error = (probs - soft(s.labels, probs)).norm(dim=-1)
    return error * (features.square().sum(-1) + float(bias)).sqrt()
