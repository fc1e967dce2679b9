"""Random tokens: the control every token result is compared with. On some models it beats attention.

Removes: visual tokens.
Needs: only the number of tokens.
Cost: nothing.
Departures: a draw is a keyed hash of (seed, image id, position). Inside a model no image id is known, so every image then keeps
    the same random positions and a result does not depend on the batch; use several seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunus.core.registry import criterion
from prunus.core.rng import Rng


@criterion(unit="tokens", at="vision.output", needs=("features",), sense="keep")
def random(s: Any, *, rng: Rng) -> Tensor:
    """Uniform numbers. `s.features` `[B, T, d]` -> `[B, T]`; `s.ids` `[B]`, where given, makes the draw differ by image."""
    batch, tokens = s.features.shape[:2]
    positions = np.arange(tokens)
    ids = getattr(s, "ids", None)
    if ids is None:
        values = np.broadcast_to(rng.uniform(positions), (batch, tokens))
    else:
        values = np.stack([rng.child(str(i)).uniform(positions) for i in np.asarray(ids).tolist()])
    return torch.tensor(values, dtype=torch.float64, device=s.features.device)
