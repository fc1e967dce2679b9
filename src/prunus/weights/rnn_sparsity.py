"""RNN sparsity: one magnitude threshold over the input and hidden weights of recurrent layers (Darji 2021).

Removes: weights of RNN, GRU and LSTM layers: input-to-hidden, hidden-to-hidden, or both; biases, embeddings and output layers stay whole.
Needs: the weights only; recovery (finetune with the plan's masks) takes labelled rows.
Cost: one percentile of n weights: O(n) time, 4 n bytes.
Departures: the threshold is the linearly interpolated percentile, as released, and what equals it stays: up to one weight more than the
 budget, and more where magnitudes are equal. All layers are pooled, as the code does (the text once says per layer). The gates of a
 layer are one matrix and not balanced; the plan's provenance gives the density of each. A budget of nothing is
 refused; the released code keeps the largest weight. Sparse networks built from random graphs are `train.graph_rnn`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from prunus.core.budget import Budget
from prunus.core.errors import BadInput, NonFinite
from prunus.core.plan import Kept, Plan
from prunus.core.registry import search
from prunus.weights.recurrent import recurrent

GATES = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}


@search(unit="weights", card="rnn-sparsity", of="recurrent")
def rnn_sparsity(prunable: Any, budget: Budget, *, connections: Literal["both", "i2h", "h2h"] = "both") -> Plan:
    """Masks of the recurrent matrices, by one threshold over all layers.

    Args:
        prunable: the model.
        budget: share or number of the chosen weights, as `sparsity 80%`.
        connections: input-to-hidden and hidden-to-hidden weights together, or only one of the two kinds.

    Returns:
        A Plan over the chosen matrices; its provenance holds the threshold and, in `gates`, the density of each gate.

    Raises:
        NonFinite: a weight is NaN or infinite.
        BudgetUnreachable: nothing would stay.
    """
    if budget.nm:
        raise BadInput(f"rnn_sparsity cuts at one magnitude: give a share, as 'sparsity 80%', not {budget.short()}")
    groups = recurrent(prunable.groups("weights"), "recurrent" if connections == "both" else connections)
    sizes: dict[str, np.ndarray] = {}
    for group in groups:
        values = np.abs(prunable.model.get_parameter(group.name).detach().float().cpu().numpy())
        if not np.isfinite(values).all():
            raise NonFinite(f"{group.name} holds NaN or infinity")
        sizes[group.name] = values
    pooled = np.concatenate([values.ravel() for values in sizes.values()])
    budget.count(pooled.size)  # refuses to keep nothing
    threshold = np.percentile(pooled, 100 * (1 - budget.term.limit(pooled.size) / pooled.size))
    kept = {name: values >= threshold for name, values in sizes.items()}
    tags = {group.name: group.tag for group in groups}
    gates = {name: _per_gate(mask, GATES.get(tags[name], 1)) for name, mask in kept.items()}
    planned = {"weights": float(sum(mask.sum() for mask in kept.values()))}
    made = {"threshold": float(threshold), "gates": gates}
    masks = {name: Kept.of_mask(mask) for name, mask in kept.items()}
    return Plan("weights", masks, budget, planned, {"weights": float(pooled.size)}, (), {}, (), made, "")


def _per_gate(mask: np.ndarray, gates: int) -> list[float]:
    """Density of each gate, in torch's order: reset, update, new; or input, forget, cell, output."""
    gates = gates if mask.shape[0] % gates == 0 else 1  # the projection of an LSTM has none
    return [round(float(share), 6) for share in mask.reshape(gates, -1).mean(1)]
