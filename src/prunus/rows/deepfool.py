"""DeepFool: distance of a row to the nearest decision boundary in the input space (Ducoffe & Precioso 2018).

Removes: rows. Large is easy: rows near a boundary are those that decide where it runs.
Needs: boundary_distance, the length of DeepFool's way across the nearest boundary (Moosavi-Dezfooli et al. 2016), from
  a pass of a trained model; an input of floating point. No labels: the class left is the predicted one.
Cost: floor: classes x iterations backward passes for each row (9 rivals, most rows cross within 2 to 4 iterations);
  memory 4 n bytes and 5 inputs of a batch. benchmarks/deepfool.py prints time / floor.
Departures: the length ||r||, where DeepCore takes ||r||^2, which ranks alike (`parity="official"` squares). A crossing
  is tested 2 % beyond the boundary, as in the paper of DeepFool; DeepCore steps onto the boundary itself, where
  rounding decides. Rivals are the 10 classes of the largest logits, as released with DeepFool; DeepCore takes all.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from prunus.core.registry import criterion
from prunus.rows.targets import real


@criterion(unit="rows", needs=("boundary_distance",), sense="easy")
def deepfool(s: Any, *, parity: Literal["paper", "official"] = "paper") -> Tensor:
    """Distance to the nearest boundary, `[n]`, 0 or more, in units of the input.

    Args:
        s: signals with `boundary_distance [n]`.
        parity: paper, or official for the squared distance of DeepCore.
    """
    distance = real(s.boundary_distance)
    return distance.square() if parity == "official" else distance
