"""One tree of errors. Each says what was wrong, with the value, and what to do; each carries an exit code.

Exit codes: 1 any other failure, 2 bad input, 3 budget unreachable, 4 gate failed, 5 resources.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class PrunusError(Exception):
    """Anything prunus refuses or fails at, on purpose."""

    exit_code = 1


class BadInput(PrunusError, ValueError):
    """The caller gave something that can't be used: a shape, a value, an id, an option."""

    exit_code = 2


class NonFinite(BadInput):
    """NaN or infinity where a number is needed; the message names where."""


class UnknownName(BadInput):
    """A method, column, key or option that does not exist; the message names the nearest."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(set(known))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names[:12])}"
        super().__init__(f"there is no {what} named {name!r}; {hint}")
        self.nearest = near


class IdMismatch(BadInput):
    """Ids of two things that must agree do not."""


class FingerprintMismatch(BadInput):
    """A score or plan that was made for another prunable."""

    def __init__(self, what: str, made_for: str, given: str) -> None:
        super().__init__(f"this {what} was made for {made_for!r} but is used on {given!r}; recompute it on this one")


class CorruptFile(BadInput):
    """A file that is truncated, hostile, or not what its name says."""


class SchemaTooNew(BadInput):
    """A file written by a later prunus."""

    def __init__(self, path: object, found: int, known: int) -> None:
        super().__init__(f"{path} has schema {found}; this prunus reads up to {known}: upgrade prunus to read it")


class SplitError(BadInput):
    """The test role was used for a choice."""


class MissingExtra(PrunusError, ImportError):
    """An optional dependency is not installed."""

    exit_code = 2


class BudgetUnreachable(PrunusError):
    """No plan meets the budget; `nearest` names the nearest one that can be met."""

    exit_code = 3

    def __init__(self, message: str, *, nearest: str = "") -> None:
        super().__init__(f"{message}; nearest reachable: {nearest}" if nearest else message)
        self.nearest = nearest


class GateFailed(PrunusError):
    """A `--require` condition does not hold."""

    exit_code = 4


class ResourceError(PrunusError):
    """Disk, memory, hours or a lock: the machine can't do this now."""

    exit_code = 5


class StageFailed(PrunusError):
    """A stage of a run ended with an error that prunus did not raise on purpose."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Args:
        module: dotted name, such as "pyarrow.parquet".
        extra: the extra of pyproject.toml that installs it.

    Raises:
        MissingExtra: when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"{module} is needed here: pip install 'prunus[{extra}]' ({error})") from error
