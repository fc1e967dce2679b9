"""Settings: one recipe, or several run folders, with the same arms on other data or with another training, side by side.

The name of a dense arm tells the setting, `dense (noisy, equal_epochs)`, and an arm that stands in several bears it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from prunus.core.results import Results, Row
from prunus.report.verdicts import RAW

_DENSE = re.compile(r"dense(?:, recovered)? \((.*)\)")


def setting_of(dense: str) -> str:
    """`noisy, equal_epochs` of `dense (noisy, equal_epochs)`; "" where there is one setting only."""
    found = _DENSE.fullmatch(dense)
    return found[1] if found else ""


def bare(what: str, setting: str) -> str:
    """An arm's name without its setting."""
    name = what.removesuffix(RAW)
    return name.removesuffix(f" ({setting})") + what[len(name) :] if setting else what


def shown(setting: str) -> str:
    """A setting as people read it."""
    return setting.replace("_", " ")


def first_and_rest(setting: str) -> tuple[str, str]:
    """The part that is put side by side in one table (`noisy`), and the part that makes another table (`equal_epochs`)."""
    first, _, rest = setting.partition(", ")
    return first, rest


def joined(runs: Iterable[tuple[str, Results]]) -> Results:
    """Results of several runs as those of one: every run's tag becomes the first word of its settings."""
    rows = [_tagged(row, tag) for tag, results in runs for row in results]
    environment = {f"{tag}: {name}": value for tag, results in runs for name, value in results.environment.items()}
    return Results(tuple(rows), environment)


def _tagged(row: Row, tag: str) -> Row:
    before = setting_of(row.dense or row.what)
    after = f"{tag}, {before}" if before else tag
    names = {name: _renamed(getattr(row, name), before, after) for name in ("what", "like") if getattr(row, name)}
    return replace(row, dense=_renamed(row.dense or "dense", before, after), **names)


def _renamed(what: str, before: str, after: str) -> str:
    plain = bare(what, before)
    name = plain.removesuffix(RAW)
    return f"{name} ({after}){plain[len(name) :]}"


def tags(names: Sequence[str], recipes: Sequence[Mapping[str, object]]) -> list[str]:
    """What to call each run: its name where they differ, else the recipe's values that differ (`label_noise=0.2`), else its place."""
    if len(set(names)) == len(names):
        return list(names)
    flat = [_flat(recipe) for recipe in recipes]
    keys = sorted({key for one in flat for key in one if any(one.get(key) != other.get(key) for other in flat)})
    words = [
        " ".join(f"{key.rpartition('.')[2]}={one[key]}" for key in keys if key in one) or "default" for one in flat
    ]
    return words if len(set(words)) == len(words) else [f"{name} {place}" for place, name in enumerate(names, 1)]


def _flat(value: object, place: str = "") -> dict[str, object]:
    if isinstance(value, Mapping):
        parts = [_flat(inner, f"{place}.{key}") for key, inner in value.items()]
        return {key: inner for part in parts for key, inner in part.items()}
    return {} if place.startswith((".run.", ".report.")) else {place: value}
