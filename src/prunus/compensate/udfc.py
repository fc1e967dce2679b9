"""UDFC: filters that stay stand in for those that go, without any data (Bai et al. 2023).

Removes: nothing; makes up for removed channels, neurons.
Needs: the filters that make each input, with their norms folded in; no data at all.
Cost: one solve of the size of what stays for each reader: kept^3 + kept^2 * weights of a filter.
Departures: no code could be had; the solution is our own derivation of the paper's error. The ridge is a share of
 the mean squared norm of the filters, where the published one is a number whatever their scale (parity="official"), and
 a channel is only made up for where the predicted error falls below `most` of what it was. Channels that the norm has
 set to 0 keep their constant. Makers are those of the dense model. Quantised makers are the business of
 recovery/udfc_bits.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from prunus.compensate.reader import Reader, finite, from_units, removed_units
from prunus.core.edits import Edit, SetWeight
from prunus.core.errors import BadInput
from prunus.core.registry import compensator
from prunus.maths.stand_in import combination, misfit


@compensator(needs=("filters",), card="udfc")
def udfc(
    reader: Reader,
    dropped: np.ndarray,
    *,
    alpha1: float = 0.01,
    alpha2: float = 1.0,
    most: float = 0.9,
    parity: Literal["paper", "official"] = "paper",
) -> tuple[Edit, ...]:
    """Weights of what stays, with the parts of what goes.

    Args:
        reader: `.weight [units, per_unit, outputs]`, `.filters [units, d]`, `.shifts [units]`, `.places [units]`.
        dropped: int64, units that go.
        alpha1: weight of the shifts in the error.
        alpha2: ridge, in mean squared norms of the filters (official: as it is; published 0.008).
        most: share of the error without a stand-in above which there is none (official: always one).
        parity: official takes alpha2 as it is and every solution.

    Returns:
        one SetWeight of dense shape with zeros at what goes, or nothing where nothing changes.
    """
    removed = removed_units(reader, dropped)
    if reader.filters is None or reader.shifts is None or reader.places is None:
        raise BadInput(f"{reader.parameter} was given no filters of its makers: udfc needs the graph of the model")
    filters, shifts = finite(reader, "filters", reader.filters), finite(reader, "filters' shifts", reader.shifts)
    new = reader.weight.detach().double().clone()
    changed = False
    for place in reader.places[removed].unique().tolist():
        alike = reader.places == place
        gone, stays = torch.nonzero(alike & removed).flatten(), torch.nonzero(alike & ~removed).flatten()
        if place < 0 or not len(stays):
            continue
        sides = (filters[gone], shifts[gone], filters[stays], shifts[stays])
        scales = stand_ins(*sides, alpha1=alpha1, alpha2=alpha2, most=most, parity=parity)
        new[stays] += torch.einsum("mk,mto->kto", scales, reader.weight.detach()[gone].double())
        changed |= bool(scales.any())
    new[removed] = 0.0
    return (SetWeight(reader.parameter, from_units(reader, new)),) if changed else ()


def stand_ins(
    targets: Tensor,
    target_shifts: Tensor,
    filters: Tensor,
    shifts: Tensor,
    *,
    alpha1: float,
    alpha2: float,
    most: float,
    parity: str,
) -> Tensor:
    """Coefficients `[gone, stays]`; rows of zeros where no stand-in is worth it."""
    if parity == "official":
        return combination(targets, target_shifts, filters, shifts, alpha1=alpha1, alpha2=alpha2)
    ridge = alpha2 * float(filters.double().square().sum(1).mean())
    scales = combination(targets, target_shifts, filters, shifts, alpha1=alpha1, alpha2=ridge)
    after = misfit(targets, target_shifts, filters, shifts, scales, alpha1)
    before = misfit(targets, target_shifts, filters, shifts, torch.zeros_like(scales), alpha1)
    return torch.where((after < most * before).unsqueeze(1), scales, torch.zeros_like(scales))
