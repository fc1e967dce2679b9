"""Reading a recipe: TOML, overrides, names; every refusal says where and what to write instead."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from prunus.core.errors import BadInput, UnknownName
from prunus.core.prunable import UNITS
from prunus.recipe.schema import NAMED, SCHEMES, ArmTable, Recipe, Table


def load(path: str | Path, overrides: Sequence[str] = (), *, allow_code: bool = False) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file.
        overrides: `key=value` with dotted keys, as `run.seeds=[0,1]`, `arms.0.prune.0.budget="50% macs"`.
        allow_code: let values of the form `module:function` name the user's own code.

    Raises:
        UnknownName: a key that does not exist; names the nearest.
        BadInput: anything else that is wrong, with its place in the file.
    """
    try:
        raw = tomllib.loads(Path(path).read_text("utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise BadInput(f"there is no recipe {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid TOML: {error}") from error
    return parse(raw, overrides, allow_code=allow_code, where=str(path))


def parse(
    raw: dict[str, Any], overrides: Sequence[str] = (), *, allow_code: bool = False, where: str = "recipe"
) -> Recipe:
    """The same from a table already read."""
    for override in overrides:
        _override(raw, override)
    try:
        recipe = Recipe.model_validate(_named(raw))
    except ValidationError as error:
        raise _refusal(error, where) from None
    _check_names(recipe)
    if not allow_code:
        _refuse_code(recipe, where)
    return recipe


def _override(raw: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise BadInput(f"{text!r} is no override: write key=value, as run.seeds=[0,1]")
    try:
        parsed: Any = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    *parents, last = path.strip().split(".")
    place: Any = raw
    for part in parents:
        place = _step(place, part, text) if isinstance(place, list) else place.setdefault(part, {})
        if not isinstance(place, dict | list):
            raise BadInput(f"override {text!r}: {part!r} is a value, not a table")
    if isinstance(place, list):
        _step(place, last, text)
        place[int(last)] = parsed
    else:
        place[last] = parsed


def _step(place: list[Any], part: str, text: str) -> Any:
    if not part.isdigit() or int(part) >= len(place):
        raise BadInput(f"override {text!r}: {part!r} is no position in a list of {len(place)} (counted from 0)")
    return place[int(part)]


def _named(raw: dict[str, Any]) -> dict[str, Any]:
    """`[data]` without a name becomes `[data.main]`."""
    out = dict(raw)
    for section in NAMED:
        table = out.get(section)
        kind = _model_of(Recipe.model_fields[section].annotation)
        plain = isinstance(table, dict) and all(
            isinstance(v, dict) and k not in kind.model_fields for k, v in table.items()
        )
        if table is not None and not (plain and table):
            out[section] = {"main": table}
    return out


def _model_of(annotation: Any) -> type[BaseModel]:
    """The table type inside an annotation such as dict[str, DataTable] or tuple[ArmTable, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_of(inner)
        if found is not Table:
            return found
    return Table


def _refusal(error: ValidationError, where: str) -> BadInput:
    found = error.errors()
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])  # a misspelt key is missing too
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        kind: type[BaseModel] = Recipe
        for part in first["loc"][:-1]:
            if part in kind.model_fields:
                kind = _model_of(kind.model_fields[str(part)].annotation)
        table = ".".join(str(part) for part in first["loc"][:-1]) or "the recipe"
        return UnknownName(f"key in {table} of {where}", str(first["loc"][-1]), kind.model_fields)
    if first["type"] == "missing":
        return BadInput(f"{where}: {place} is missing; every {place.split('.')[0]} needs it")
    message = first["msg"].removeprefix("Value error, ")
    return BadInput(f"{where}: {place}: {message} (given: {first['input']!r:.100})")


def _check_names(recipe: Recipe) -> None:
    for number, arm in enumerate(recipe.arms):
        for section, chosen in _chosen(arm):
            if chosen not in ("", "none", *getattr(recipe, section)):
                raise UnknownName(f"[{section}] for arm {arm.name or number}", chosen, getattr(recipe, section))
    for name, signals in recipe.signals.items():
        if signals.train and signals.train not in recipe.train:
            raise UnknownName(f"[train] for signals {name}", signals.train, recipe.train)
    for name, teacher in recipe.teacher.items():
        if teacher.train not in ("", "none", *recipe.train):
            raise UnknownName(f"[train] for teacher {name}", teacher.train, recipe.train)
        if teacher.model not in ("", *recipe.model):
            raise UnknownName(f"[model] for teacher {name}", teacher.model, recipe.model)
    for unit in recipe.controls:
        if unit not in UNITS:
            raise UnknownName("unit in [controls]", unit, UNITS)


def _chosen(arm: ArmTable) -> Iterator[tuple[str, str]]:
    """(section, name of one of its tables) for every table that an arm names."""
    for section in NAMED:
        given = getattr(arm, section)
        yield from ((section, name) for name in (given if isinstance(given, tuple) else (given,)))


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(_texts(v, f"{place}.{k}".strip(".")) for k, v in value.items())
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(_texts(v, f"{place}.{i}") for i, v in enumerate(value))


def _refuse_code(recipe: Recipe, where: str) -> None:
    for place, text in _texts(recipe.canonical()):
        match = re.fullmatch(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)", text)
        if match and match[1] not in SCHEMES:
            raise BadInput(
                f"{where}: {place} = {text!r} would run code of your own; if you trust this recipe, add --allow-code"
            )
