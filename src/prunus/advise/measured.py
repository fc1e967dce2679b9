"""The measured tables: which methods over rows beat the control, by data, label noise, training and budget.

`measured.json` is made from run folders by `python -m prunus.advise.collect`; no figure in it is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from prunus.core import files
from prunus.core.errors import BadInput, CorruptFile

SCHEMA = 1
NAME = "measured.json"


@dataclass(frozen=True)
class Cell:
    """One arm at one budget, as in a report's heat table.

    Attributes:
        word: better, worse or tie against the control of its table.
        difference, interval: mean over seeds of arm minus control, in the metric's unit.
        wrong: share of the kept rows whose label is wrong; None where no wrong labels were put in, or no plan was made.
        smallest: rows kept of the class that keeps least, over what every class would have in equal parts; None without a plan.
    """

    word: str
    difference: float
    interval: tuple[float, float] | None
    wrong: float | None = None
    smallest: float | None = None


@dataclass(frozen=True)
class Arm:
    """A method with its settings, over the budgets of a table.

    Attributes:
        name: what it is made of: `aum + ccs(hard_cut=0.3)`.
        method, select: names; options of each.
        needs: signals that both read.
        signals, selection: what each costs, in trainings on all rows.
        cells: one for each budget of the table, None where it was not run.
    """

    name: str
    method: str
    select: str
    method_options: Mapping[str, Any]
    select_options: Mapping[str, Any]
    needs: tuple[str, ...]
    signals: float
    selection: float
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Table:
    """What one recipe measured in one setting.

    Attributes:
        run: name of the recipe; recipe: its hash.
        data, model: sources, as in the recipe.
        setting: of the recipe, as in the report.
        inputs: shape of one row.
        rows, classes, imbalance: of the rows trained on (largest class over smallest).
        label_noise: share of them that got a wrong label.
        equal: steps or epochs: what subsets got as much of as all rows.
        epochs: of training on all rows.
        seeds: pairs behind every interval.
        metric, control: what is compared, and with what.
        dense: training on all rows; base: the control at each budget.
        budgets: shares kept, in 0..1.
        arms: best mean difference first.
    """

    run: str
    recipe: str
    data: str
    model: str
    setting: str
    inputs: tuple[int, ...]
    rows: int
    classes: int
    imbalance: float
    label_noise: float
    equal: str
    epochs: int | None
    seeds: int
    metric: str
    control: str
    dense: float
    budgets: tuple[float, ...]
    base: tuple[float, ...]
    arms: tuple[Arm, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def read(path: str | Path | None = None) -> tuple[Table, ...]:
    """The tables of a file; default those that come with the package.

    Raises:
        CorruptFile: not a file of tables. BadInput: a newer schema.
    """
    return _packaged() if path is None else _tables(files.read_json(Path(path)), str(path))


@cache
def _packaged() -> tuple[Table, ...]:
    place = resources.files("prunus.advise").joinpath(NAME)
    with resources.as_file(place) as path:
        return _tables(files.read_json(path), NAME)


def _tables(value: Mapping[str, Any], where: str) -> tuple[Table, ...]:
    if value.get("schema") != SCHEMA:
        raise BadInput(
            f"{where} has the schema {value.get('schema')}, and this prunus reads {SCHEMA}: use another version"
        )
    try:
        return tuple(_table(table) for table in value["tables"])
    except (KeyError, TypeError) as error:
        raise CorruptFile(f"{where} holds no measured tables: {error}") from error


def _table(value: Mapping[str, Any]) -> Table:
    read: dict[str, Any] = {**value, "arms": tuple(_arm(arm) for arm in value["arms"])}
    read |= {name: tuple(value[name]) for name in ("inputs", "budgets", "base")}
    return Table(**read)


def _arm(value: Mapping[str, Any]) -> Arm:
    read: dict[str, Any] = {**value, "needs": tuple(value["needs"])}
    read["cells"] = tuple(None if cell is None else _cell(cell) for cell in value["cells"])
    return Arm(**read)


def _cell(value: Mapping[str, Any]) -> Cell:
    read: dict[str, Any] = {**value, "interval": _pair(value["interval"])}
    return Cell(**read)


def _pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))


def write(tables: Iterable[Table], path: str | Path) -> Path:
    """Write tables, those of one recipe together, numbers to five digits: a file that diffs well."""
    ordered = sorted(tables, key=lambda table: (table.run, table.recipe, table.setting))
    return files.write_json(Path(path), _short({"schema": SCHEMA, "tables": [asdict(table) for table in ordered]}))


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: _short(inner) for key, inner in value.items()}
    return [_short(inner) for inner in value] if isinstance(value, list | tuple) else value
