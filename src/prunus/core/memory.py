"""Bytes: sizes as people write them, and the formulas by which methods state what they hold."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

from prunus.core.errors import BadInput

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse_bytes(size: str | float) -> int:
    """`2GB`, `512 MiB` or a number, as bytes.

    Raises:
        BadInput: no such size, or none above 0.
    """
    found = SIZE.fullmatch(str(size)) if isinstance(size, str) else None
    if isinstance(size, str) and (found is None or found[2].lower() not in UNITS):
        raise BadInput(f"a size is written '2GB', '512 MiB' or in bytes, not {size!r}")
    count = int(float(found[1]) * UNITS[found[2].lower()]) if found is not None else int(float(size))
    if count <= 0:
        raise BadInput(f"a size must be above 0 bytes, not {size!r}")
    return count


def evaluate(formula: str, **sizes: float | None) -> int:
    """Bytes by a formula such as `8 * n * d + min(max_ram, 4 * n * n)`.

    Args:
        formula: sums, products, `min`, `max` and `a if option else b` over names.
        sizes: what the names stand for; None counts as 0.

    Raises:
        BadInput: anything else in the formula, or a name that was not given.
    """
    return int(_value(ast.parse(formula, mode="eval").body, sizes, formula))


def _value(node: ast.expr, sizes: dict[str, float | None], formula: str) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in sizes:
            return float(sizes[name] or 0)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, sizes, formula) else other, sizes, formula)
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=args):
            return (min if name == "min" else max)(_value(one, sizes, formula) for one in args)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, sizes, formula), _value(right, sizes, formula))
        case _:
            known = ", ".join(sizes) or "none"
            raise BadInput(
                f"{ast.unparse(node)!r} of the formula {formula!r} is no sum or product of known names: {known}"
            )
