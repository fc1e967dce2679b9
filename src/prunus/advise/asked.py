"""A method that the user has in mind: what is known of it, or of those that select as it does, and whether that warns of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prunus.advise.lookup import Column, Expected, methods_of, select_options
from prunus.advise.words import place, points, reasons, told
from prunus.core import registry
from prunus.core.chain import find_selector
from prunus.core.registry import Method
from prunus.flow.labelled import needs_labels, unlabelled


@dataclass(frozen=True)
class Asked:
    """`select` "" for the method's default; `options` are those of the selector that were given."""

    method: str
    select: str = ""
    options: tuple[tuple[str, Any], ...] = ()


def chosen(asked: Asked) -> tuple[Method, str]:
    """The criterion (random where a selector alone is named) and the name of the selector, "" for methods that choose while training.

    Raises:
        UnknownName: no such method or selector, or an option that the selector does not have.
    """
    method = registry.find(asked.method, unit="rows", kind=("criterion", "dynamic", "selector"))
    if method.kind == "dynamic":
        return method, ""
    if method.kind == "selector":
        method, select = registry.find("random", unit="rows", kind="criterion"), method.name
    else:
        select = asked.select or str(method.facts.get("select") or ("ccs" if _ranks(method) else "top"))
    selector = find_selector(select)
    selector.check_options(dict(asked.options))
    return method, selector.name


def answer(
    asked: Asked, ranked: Sequence[Expected], nearest: Column, *, labelled: bool = True
) -> tuple[str, list[Expected], list[str]]:
    """What to say of it, the arms that are it, and warnings where these, or others that keep the same end, lost."""
    method, select = chosen(asked)
    if not labelled and (blind := next((one for one in _both(method, select) if needs_labels(one)), None)):
        return f"{blind.id} needs labels, and these rows have none; without them: {unlabelled(blind.kind)}", [], []
    alike = [one for one in ranked if _selects(one, select, asked)]
    same = [one for one in alike if one.arm.method == method.name]
    if same:
        text = "; ".join(map(told, same))
        best = next((one for one in ranked if one.arm.method == method.name != "random"), same[0])
        if best not in same and best.difference > max(one.difference for one in same):
            text += f"; better with the same scores: {told(best)}"
        return text, same, [_fate(one, nearest) for one in same if one.behind]
    name = method.name if not select else select if method.name == "random" else f"{method.name} + {select}"
    text = f"{name} was not measured: --verify tries it"
    others = [one for one in alike if _ranks(method) and _ranks(methods_of(one.arm)[0])]
    if lost := [one for one in others if one.behind]:
        fates = ". ".join(_fate(one, nearest) for one in lost)
        return text, [], [f"others that select as {name} does were worse than {nearest.table.control}: {fates}"]
    return text + (f"; others that select alike: {'; '.join(map(told, others))}" if others else ""), [], []


def _both(method: Method, select: str) -> tuple[Method, ...]:
    return (method, find_selector(select)) if select else (method,)


def _ranks(method: Method) -> bool:
    """Whether its scores say what is hard."""
    return method.facts.get("sense", "keep") != "keep"


def _selects(one: Expected, select: str, asked: Asked) -> bool:
    """Whether an arm has the selector asked for, with the options asked for; `top` without an end keeps the hardest."""
    if one.arm.select != select:
        return False
    own, options = select_options(one.arm), dict(asked.options)
    if select == "top":
        options = {"keep": "hardest", **options}
    return all(own.get(name) == value for name, value in options.items())


def _fate(one: Expected, nearest: Column) -> str:
    """`el2n_sum + top lost 54.3 points to random_balanced there; 61 % of the labels it kept are wrong, of all rows 20 %`."""
    column, cell = one.first("worse")
    table = column.table
    lost, where = points(table, cell.difference).lstrip("−+"), place(column, nearest)
    told = f"lost {lost} to {table.control} {where}"
    if cell.word != "worse":
        told = f"fell {lost} behind {table.control} {where}, which the correction over the whole table leaves a tie"
    return "; ".join([f"{one.arm.name} {told}", *reasons(table, cell)])
