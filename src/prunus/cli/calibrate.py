"""A model with its graph and what one calibration pass measured of it: what `score` and `plan` over model units begin with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunus.cli import inputs
from prunus.cli.example import example_for, one_row
from prunus.cli.forecast import Pass, foresee, nothing_to_time
from prunus.core.errors import BadInput

if TYPE_CHECKING:
    from prunus.core.registry import Method
    from prunus.prunables.dataset import Dataset
    from prunus.prunables.model import ModelPrunable
    from prunus.signals.modules import ModuleSignals


@dataclass(frozen=True)
class Calibrated:
    """A model ready to be scored.

    Attributes:
        prunable: with an example input.
        signals: of its modules; None where nobody needs any.
        data: the calibration rows, or None.
    """

    prunable: ModelPrunable
    signals: ModuleSignals | None
    data: Dataset | None


def calibrate(
    model: inputs.Model,
    methods: Iterable[Method],
    *,
    data: str,
    folders: list[str] | None,
    size: int,
    batch: int,
    limits: dict[str, Any],
) -> Calibrated | None:
    """Measure what the methods need, or read what was measured; None after a dry run.

    Args:
        model: opened.
        methods: criteria and compensators.
        data: spec of calibration rows, or "".
        folders: one folder of `prunus signals`, or None.
        size: of images.
        batch: rows at a time.
        limits: dry_run, max_hours, as_json.
    """
    from prunus.flow.signals import GIVEN
    from prunus.prunables.example import example_of
    from prunus.prunables.model import ModelPrunable
    from prunus.signals.collect import collect

    methods = list(methods)
    need = {name for method in methods for name in method.needs} - GIVEN
    rows = inputs.open_rows(data, size=size, model=model) if data else None
    example = one_row(example_of(rows, model.net)) if rows is not None else example_for(model, size=size)
    prunable = ModelPrunable(model.net, example)
    if folders or not need:
        if nothing_to_time(**limits):
            return None
        return Calibrated(prunable, _read(folders, need, methods) if folders else None, rows)
    if rows is None:
        raise BadInput(
            f"{', '.join(method.id for method in methods if set(method.needs) & need)} needs {', '.join(sorted(need))}: "
            "add --data (some hundreds of rows of role fit) or --signals"
        )
    inputs.require_fit(model, rows)

    def job(part: Dataset) -> int:
        collect(model.net, part, sorted(need), batch=batch)
        return 0

    if foresee(Pass(rows, job, batch, cheaper="fewer calibration rows ('DATA?limit=512')"), **limits):
        return None
    return Calibrated(prunable, collect(model.net, rows, sorted(need), batch=batch).modules, rows)


def _read(folders: list[str], need: set[str], methods: list[Method]) -> ModuleSignals:
    from prunus.signals.modules import ModuleSignals

    if len(folders) > 1:
        raise BadInput(f"a model takes one folder of signals, not {len(folders)}")
    if not Path(folders[0]).is_dir():
        raise BadInput(f"there is no folder of signals {folders[0]!r}")
    found = ModuleSignals.load(folders[0])
    held = {name for stats in found.values() for name in stats.fields}
    if missing := need - held:
        names = ", ".join(method.id for method in methods)
        raise BadInput(f"{names} needs {', '.join(sorted(missing))}; {folders[0]} holds {', '.join(sorted(held))}")
    return found
