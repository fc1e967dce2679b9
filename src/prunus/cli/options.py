"""Options of methods as flags: `prunus plan ... --strata 100` belongs to the method that has an option `strata`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from prunus.core import registry
from prunus.core.errors import BadInput, UnknownName
from prunus.core.registry import Method, Option

EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}


def split(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Words, and flags of methods, in whatever order they were typed.

    Args:
        arguments: what the verb itself did not know: words, `--name value`, `--name=value`, `--flag`, `--no-flag`.

    Returns:
        (words, (name, text) pairs).
    """
    kinds: dict[str, set[str]] = {}
    for method in registry.catalogue().values():
        for option in method.options:
            kinds.setdefault(option.name, set()).add(option.type)
    words: list[str] = []
    pairs: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            words += [word] if word != "--" else []
            continue
        name, equals, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if equals:
            pairs.append((name, text))
        elif name.startswith("no_") and "bool" in kinds.get(name[3:], ()):
            pairs.append((name[3:], "false"))
        elif kinds.get(name) != {"bool"} and rest and not rest[0].startswith("--"):
            pairs.append((name, rest.pop(0)))
        else:
            pairs.append((name, "true"))
    return words, pairs


def assign(pairs: Sequence[tuple[str, str]], *methods: Method, also: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Give each flag to the methods that have it.

    Args:
        pairs: from `split`.
        methods: whose options are looked at.
        also: flags of the verb itself, for the hint.

    Returns:
        one dict of options for each method.

    Raises:
        UnknownName: no method has the option; names the nearest.
        BadInput: the value is not of the option's type.
    """
    found: list[dict[str, Any]] = [{} for _ in methods]
    known = {option.name for method in methods for option in method.options}
    for name, text in pairs:
        takers = [(at, option) for at, method in enumerate(methods) for option in method.options if option.name == name]
        if not takers:
            owners = " or ".join(method.id for method in methods) or "this verb"
            raise UnknownName(f"option of {owners}", name, [*known, *also])
        for at, option in takers:
            found[at][name] = value(option, text)
    return found


def find_method(name: str, units: str | tuple[str, ...], kind: str | tuple[str, ...], why: str) -> Method:
    """A method for a unit; one that exists for another unit is named as such.

    Args:
        name: id or bare name.
        units: rows, channels, ...; the first of several that has the name.
        kind: criterion, ...
        why: where the unit comes from: "the budget '50% rows' is over rows".
    """
    units = (units,) if isinstance(units, str) else units
    try:
        found = registry.find_first(name, units, kind)
    except UnknownName:
        kinds = (kind,) if isinstance(kind, str) else kind
        others = [one.id for one in registry.methods() if one.name == name and one.kind in kinds]
        if not others:
            raise
        raise BadInput(f"{name} is {' or '.join(others)}, but {why}") from None
    if found.unit not in (*units, ""):
        raise BadInput(f"{found.id} removes {found.unit}, but {why}")
    return found


def settings_of(unit: str) -> tuple[str, ...]:
    """The verb's flags that the planner of a unit has."""
    from prunus.flow.channels import plan_channels
    from prunus.flow.layers import plan_layers
    from prunus.flow.ranks import plan_ranks
    from prunus.flow.weights import plan_weights
    from prunus.prunables.stream import TokenStream

    planners = {
        "channels": plan_channels, "layers": plan_layers, "weights": plan_weights, "ranks": plan_ranks,
        "tokens": TokenStream.plan,
    }  # fmt: skip
    if unit not in planners:
        raise BadInput(f"plans over {unit} are not made by this version; by it: rows, {', '.join(planners)}")
    return tuple(inspect.signature(planners[unit]).parameters)


def refuse_unfit(settings: dict[str, Any], known: tuple[str, ...], unit: str) -> None:
    """Refuse a flag of the verb that the planner of the unit does not have."""
    for name in settings:
        if name not in known:
            fits = [f"--{other.replace('_', '-')}" for other in known if other in FLAGS]
            raise BadInput(
                f"--{name.replace('_', '-')} does not belong to plans over {unit}; these do: {', '.join(fits) or 'none'}"
            )


FLAGS = (
    *(
        "select",
        "allocate",
        "over",
        "val",
        "max_ram",
        "scope",
        "scheme",
        "normalise",
        "compensate",
        "within",
        "layers",
        "at",
    ),
    *("floor_share", "minimum", "tail", "positions", "unweighted"),
)


def own_flags(context: typer.Context) -> list[str]:
    """Names of the verb's own flags."""
    found = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
    return [name[2:].replace("-", "_") for name in found]


def arguments(context: typer.Context, words: Sequence[str] | None) -> tuple[list[str], list[tuple[str, str]]]:
    """`split` of everything the verb did not know itself."""
    return split([*(words or ()), *context.args])


def value(option: Option, text: str) -> Any:
    """A typed value of an option from its text."""
    kind = option.type.replace(" ", "")
    choices = _literals(kind)
    if choices:
        if text not in choices and not _is_plain(kind):
            raise UnknownName(f"value of --{option.name}", text, choices)
        if text in choices:
            return text
    if text.lower() == "none" and "None" in kind:
        return None
    try:
        if "bool" in kind:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if kind.startswith("tuple[str"):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if kind.startswith("tuple"):
            return tuple(ast.literal_eval(part.strip()) for part in text.strip("()").split(",") if part.strip())
        if "float" in kind:
            return float(text)
        if "int" in kind:
            return int(text)
    except (KeyError, ValueError, SyntaxError) as error:
        raise BadInput(f"--{option.name} takes {option.type}, not {text!r}") from error
    return text


def _literals(kind: str) -> list[str]:
    if "Literal[" not in kind:
        return []
    inside = kind.partition("Literal[")[2].partition("]")[0]
    return [str(ast.literal_eval(part)) for part in inside.split(",")]


def _is_plain(kind: str) -> bool:
    return any(word in kind for word in ("int", "float", "str", "None"))
