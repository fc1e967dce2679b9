"""A target: other rows, those a model will be used on, that the rows to be pruned are compared with.

It is never pruned, and its labels are never read. It comes as Signals, as an array, or as what the command line has:
a folder of `prunus signals`, or a table of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prunus.core.errors import BadInput
from prunus.core.score import check_finite_rows
from prunus.signals import tables
from prunus.signals.rowset import Signals

One = Signals | Tensor | NDArray[np.floating]
Target = One | Sequence[One | str]
"""One target, or several as a list. Arrays are what the method reads: `[n, d]`."""


def opened(target: str | Target) -> Target:
    """The same with every path read.

    Args:
        target: a path, or what `values` takes.

    Raises:
        BadInput: there is nothing at the path.
        CorruptFile: it can't be read.
    """
    if isinstance(target, str):
        return _read(target)
    if isinstance(target, list | tuple):
        return [_read(one) if isinstance(one, str) else one for one in cast("Sequence[One | str]", target)]
    return target


def values(target: str | Target | None, names: Sequence[str], what: str) -> list[NDArray[np.floating]]:
    """The numbers of every target, float `[n, d]` each, all with the same d.

    Args:
        target: Signals that hold one of `names`, an array `[n, d]`, a path to signals, or several of these in a list.
        names: of the signal, the first that is there.
        what: who asks, for messages.

    Raises:
        BadInput: no target, an empty one, one without the signal or of another shape.
        NonFinite: NaN or infinity in a target; names its rows.
    """
    if target is None:
        raise BadInput(
            f"{what} compares with a target: give target=, the {' or '.join(names)} of the rows the model is meant for "
            "(Signals, an array, or the folder that prunus signals wrote)"
        )
    found = opened(target)
    several = cast("Sequence[One]", found) if isinstance(found, list | tuple) else [found]
    arrays = [_checked(one, names, what) for one in several]
    if len({array.shape[1] for array in arrays}) != 1:
        raise BadInput(f"{what} takes targets of one width, not {[list(array.shape) for array in arrays]}")
    return arrays


def _read(path: str) -> Signals:
    if Path(path).is_dir():
        return Signals.load(path)
    return tables.read(path)


def _checked(one: Any, names: Sequence[str], what: str) -> NDArray[np.floating]:
    ids: NDArray[Any] | None = None
    if isinstance(one, Signals):
        name = next((name for name in names if name in one.names), None)
        if name is None:
            raise BadInput(
                f"{what} reads {' or '.join(names)} of the target, whose signals hold {', '.join(one.names)}"
            )
        one, ids = one.field(name), one.ids
    array = np.asarray(one)
    if array.ndim != 2 or not array.size or array.dtype.kind not in "fiub":
        raise BadInput(
            f"the target of {what} must be numbers [n, d] and not empty, not {array.dtype} {list(array.shape)}"
        )
    check_finite_rows(f"the target of {what}", array, np.arange(len(array)) if ids is None else ids)
    return array if array.dtype.kind == "f" else array.astype(np.float64)
