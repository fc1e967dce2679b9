"""Roles of data: who may read what. Choices are made on `fit` and `val`; `test` is for measure; reads are counted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from prunus.core.errors import SplitError, UnknownName

Role = Literal["fit", "val", "test", "train"]
ROLES: tuple[Role, ...] = ("fit", "val", "test", "train")


@dataclass
class Reads:
    """How often rows were handed out; shared by a dataset and everything cut from it.

    Attributes:
        rows: rows handed out, each read counted.
        passes: calls of `batches` and single reads outside of one.
    """

    rows: int = 0
    passes: int = 0


def check_role(role: str) -> Role:
    """The role itself, or UnknownName."""
    for known in ROLES:
        if role == known:
            return known
    raise UnknownName("role", role, ROLES)


def require_role(data: Any, allowed: Collection[str], *, what: str) -> None:
    """Refuse data whose role does not fit its use.

    `train` is a training file that was not split yet and counts as `fit`. Data without a role (plain arrays,
    any iterable) pass: the caller vouches for them.

    Args:
        data: a Dataset, or anything with `.role`.
        allowed: the roles this use accepts.
        what: the use, for the message, such as "calibration".

    Raises:
        SplitError: the role is not among `allowed`.
    """
    role = getattr(data, "role", None)
    if role is None or role in allowed or (role == "train" and "fit" in allowed):
        return
    name = getattr(data, "name", "") or "the data"
    hint = (
        "choices made on test rows make every later number look better than it is"
        if role == "test"
        else "see the design's section on splits"
    )
    raise SplitError(f"{what} was given {name} with role {role!r} but accepts {' or '.join(sorted(allowed))}: {hint}")
