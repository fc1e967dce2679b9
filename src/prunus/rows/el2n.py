"""EL2N: norm of the error vector p - y, early in training (Paul et al. 2021).

Removes: rows. Large is hard.
Needs: probabilities of a model trained for a few epochs (about 10 to 20 on CIFAR), eval mode, no augmentation;
  labels.
Cost: one short run and one forward pass for each of R runs; O(n c). Scores of one run are noisy: average 5 to 10
  (`rows/runs.py`).
Departures: none in the score. The sum over training batches that the coverage-centric code calls EL2N is
  `rows/el2n_sum`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real, soft


@criterion(unit="rows", needs=("probs", "labels"), sense="hard", card="data-diet")
def el2n(s: Any) -> Tensor:
    """`||p - y||_2`, `[n]` in [0, sqrt(2)].

    Args:
        s: signals with `probs [n, c]` and `labels` `[n]` or `[n, c]`.
    """
    probs = real(s.probs)
    return (probs - soft(s.labels, probs)).norm(dim=-1)
