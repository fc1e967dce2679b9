"""Options of methods as flags: `prunus plan ... --strata 100` belongs to the method that has an option `strata`."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from prunus.core.errors import BadInput, UnknownName
from prunus.core.registry import Method, Option

EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}


def parse(arguments: Sequence[str], *methods: Method) -> list[dict[str, Any]]:
    """Give each flag to the methods that have it.

    Args:
        arguments: what typer did not know: `--name value`, `--name=value`, `--flag`, `--no-flag`.
        methods: whose options are looked at.

    Returns:
        one dict of options for each method.

    Raises:
        UnknownName: no method has the option; names the nearest.
        BadInput: the value is not of the option's type.
    """
    found: list[dict[str, Any]] = [{} for _ in methods]
    known = {option.name for method in methods for option in method.options}
    for name, text in _pairs(arguments, known):
        takers = [(method, option) for method in methods for option in method.options if option.name == name]
        if not takers:
            raise UnknownName(f"option of {' or '.join(m.id for m in methods)}", name, known or {"(they have none)"})
        for method, option in takers:
            found[methods.index(method)][name] = value(option, text)
    return found


def _pairs(arguments: Sequence[str], known: set[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise BadInput(f"don't know what to do with {flag!r}; options of methods are written --name value")
        name, equals, text = flag[2:].partition("=")
        name = name.replace("-", "_")
        if equals:
            pairs.append((name, text))
        elif name.startswith("no_") and name[3:] in known:
            pairs.append((name[3:], "false"))
        elif rest and not rest[0].startswith("--"):
            pairs.append((name, rest.pop(0)))
        else:
            pairs.append((name, "true"))
    return pairs


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
