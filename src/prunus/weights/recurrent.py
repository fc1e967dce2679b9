"""The matrices of recurrent layers, by how torch names them."""

from __future__ import annotations

from collections.abc import Sequence

from prunus.core.errors import BadInput, UnknownName
from prunus.core.prunable import Group

SIDES = ("recurrent", "i2h", "h2h")
STORED = {"i2h": ("weight_ih",), "h2h": ("weight_hh",), "recurrent": ("weight_ih", "weight_hh", "weight_hr")}


def recurrent(groups: Sequence[Group], which: str) -> tuple[Group, ...]:
    """The matrices of recurrent layers.

    Args:
        groups: of unit weights.
        which: i2h, h2h, or recurrent for all of them.

    Raises:
        BadInput: the model has none.
    """
    if which not in STORED:
        raise UnknownName("kind of recurrent weights", which, STORED)
    found = tuple(group for group in groups if group.name.rpartition(".")[2].startswith(STORED[which]))
    if not found:
        raise BadInput("this model has no recurrent layer (nn.RNN, nn.GRU, nn.LSTM or their cells)")
    return found
