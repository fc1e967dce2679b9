"""The registry: decorators for every kind of method, and a catalogue that reads them with `ast`.

A method is one file in one room; its decorator's keyword arguments are literals, so nothing is imported to list it.
Third parties add files through the entry-point group `prunus.methods` (each entry point names a module).
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from prunus.core.errors import BadInput, UnknownName, require

KINDS = (
    "criterion",
    "selector",
    "solver",
    "search",
    "compensator",
    "dynamic",
    "schedule",
    "allocator",
    "signal",
    "recovery",
    "measure",
)
ROOMS = (
    *("rows", "pairs", "tables", "weights", "channels", "layers", "ranks", "experts", "tokens"),
    *("select", "compensate", "allocate", "schedule", "signals", "recovery", "measure"),
)
UNIT_ROOMS = ROOMS[:9]
ENTRY_POINTS = "prunus.methods"
INJECTED = ("rng", "probe", "fit", "slopes", "signals", "measure")
PLAIN = {"int", "float", "bool", "str", "Literal", "tuple", "None"}  # types that a flag or a recipe key can carry
F = TypeVar("F", bound=Callable[..., Any] | type)


def _decorator(kind: str) -> Callable[..., Callable[[F], F]]:
    def decorate(**facts: Any) -> Callable[[F], F]:
        def mark(method: F) -> F:
            method.kind, method.facts = kind, facts  # type: ignore[attr-defined]
            return method

        return mark

    decorate.__name__ = kind
    decorate.__doc__ = (
        f"Mark a {kind}. Keyword arguments are literals: unit, needs, card, extras, and the kind's own defaults."
    )
    return decorate


criterion = _decorator("criterion")
selector = _decorator("selector")
solver = _decorator("solver")
search = _decorator("search")
compensator = _decorator("compensator")
dynamic = _decorator("dynamic")
schedule = _decorator("schedule")
allocator = _decorator("allocator")
signal = _decorator("signal")
recovery = _decorator("recovery")
measure = _decorator("measure")


@dataclass(frozen=True)
class Option:
    """A keyword-only parameter of a method that the user may set: a CLI flag and a recipe key."""

    name: str
    type: str
    default: Any
    help: str


@dataclass(frozen=True)
class Method:
    """A line of the catalogue, read from source text.

    Attributes:
        id: `unit/name` or `room/name`.
        facts: the decorator's literals.
        doc: the module docstring.
        attribute: the function or class in `module`.
        keywords: every keyword-only parameter but the injected ones: the options, and those for Python callers only.
    """

    id: str
    name: str
    kind: str
    room: str
    unit: str
    facts: dict[str, Any]
    options: tuple[Option, ...]
    doc: str
    module: str
    attribute: str
    path: Path
    keywords: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the signals it reads."""
        return tuple(self.facts.get("needs", ()))

    @property
    def card(self) -> str:
        """Slug of its method card, or ""."""
        return str(self.facts.get("card", ""))

    @property
    def paper(self) -> str:
        """First line of the module docstring."""
        return self.doc.strip().partition("\n")[0]

    def section(self, name: str) -> str:
        """A `Name: ...` paragraph of the module docstring (Removes, Needs, Cost, Departures), or ""."""
        lines: list[str] = []
        for line in self.doc.splitlines():
            if line.startswith(f"{name}:"):
                lines.append(line[len(name) + 1 :].strip())
            elif lines and line.startswith((" ", "\t")):
                lines.append(line.strip())
            elif lines:
                break
        return " ".join(lines).strip()

    @property
    def cost(self) -> str:
        """What it costs, from the docstring."""
        return self.section("Cost")

    @property
    def golden(self) -> bool:
        """Whether this checkout holds a golden test of its card."""
        root = Path(__file__).parents[3] / "tests" / "golden"
        return bool(self.card) and (root / f"test_{self.card.replace('-', '_')}.py").is_file()

    def load(self) -> Callable[..., Any]:
        """Import the method (and check its extras first)."""
        for extra in self.facts.get("extras", ()):
            for module in EXTRA_MODULES.get(extra, ()):
                require(module, extra)
        return getattr(importlib.import_module(self.module), self.attribute)

    def check_options(self, options: dict[str, Any]) -> None:
        """Refuse an option that the method does not have, naming the nearest."""
        for name in options:
            if name not in self.keywords:
                raise UnknownName(f"option of {self.id}", name, self.keywords or ["(it has none)"])


EXTRA_MODULES = {
    "data": ("pyarrow",),
    "text": ("transformers",),
    "vision": ("torchvision", "timm"),
    "report": ("matplotlib", "jinja2"),
    "onnx": ("onnx", "onnxruntime"),
    "explain": ("zennit",),
    "labels": ("cleanlab",),
}


@cache
def catalogue() -> dict[str, Method]:
    """id -> Method, of this package and of every installed third party. Reads files, imports nothing."""
    found: dict[str, Method] = {}
    for module, path in _files():
        for method in _read(module, path):
            if method.id in found:
                raise BadInput(f"two methods are called {method.id}: {found[method.id].path} and {path}")
            found[method.id] = method
    return dict(sorted(found.items()))


def _files() -> Iterator[tuple[str, Path]]:
    package = Path(__file__).parents[1]
    for room in ROOMS:
        for path in sorted((package / room).glob("*.py")):
            if not path.name.startswith("_"):
                yield f"prunus.{room}.{path.stem}", path
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        spec = importlib.util.find_spec(entry.value.partition(":")[0])
        if spec is not None and spec.origin:
            yield spec.name, Path(spec.origin)


def _read(module: str, path: Path) -> Iterator[Method]:
    source = path.read_text("utf-8")
    if not any(f"@{kind}(" in source for kind in KINDS):
        return
    tree = _spelled_out(ast.parse(source, filename=str(path)))
    doc = ast.get_docstring(tree) or ""
    room = module.split(".")[-2] if module.startswith("prunus.") else ""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in KINDS:
                yield _method(module, path, room, doc, node, call)


def _spelled_out(tree: ast.Module) -> ast.Module:
    """The module with types that it names itself, as `Metric = Literal["wifv", "ifv"]`, written where they are used."""
    named = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Subscript)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and isinstance(node.annotation, ast.Name):
            node.annotation = named.get(node.annotation.id, node.annotation)
    return tree


def _method(
    module: str, path: Path, room: str, doc: str, node: ast.FunctionDef | ast.ClassDef, call: ast.Call
) -> Method:
    assert isinstance(call.func, ast.Name)
    kind = call.func.id
    try:
        facts = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except ValueError as error:
        raise BadInput(f"{path}:{call.lineno}: arguments of @{kind} must be literals") from error
    unit = str(facts.get("unit", room if room in UNIT_ROOMS else ""))
    name = str(facts.get("name", node.name if isinstance(node, ast.FunctionDef) else path.stem)).rstrip("_")
    prefix = unit if room in UNIT_ROOMS or (not room and unit) else room or kind
    function = _called(node)
    options = () if function is None else _options(node, function)
    keywords = () if function is None else tuple(arg.arg for arg in function.args.kwonlyargs if arg.arg not in INJECTED)
    return Method(
        f"{prefix}/{name}", name, kind, room, unit, facts, options, doc, module, node.name, path, keywords
    )  # fmt: skip


def _called(node: ast.FunctionDef | ast.ClassDef) -> ast.FunctionDef | None:
    """The function whose parameters are the method's: of a class its `__init__`."""
    if isinstance(node, ast.FunctionDef):
        return node
    return next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)


def _options(node: ast.FunctionDef | ast.ClassDef, function: ast.FunctionDef) -> tuple[Option, ...]:
    helps = _args_help((ast.get_docstring(function) or "") + "\n" + (ast.get_docstring(node) or ""))
    options: list[Option] = []
    for arg, default in zip(function.args.kwonlyargs, function.args.kw_defaults):
        typed = _typed(arg.annotation)
        if arg.arg in INJECTED or default is None or typed == "":
            continue
        try:
            value = ast.literal_eval(default)
        except ValueError:
            continue  # not a plain value: for Python callers only
        options.append(Option(arg.arg, typed or type(value).__name__, value, helps.get(arg.arg, "")))
    return tuple(options)


def _typed(annotation: ast.expr | None) -> str | None:
    """The part of a type whose values a person can type, "" if there is none, None if no type is given.

    Callables, models and the like are for Python callers only: of `str | Score | None` this is `str | None`.
    """
    if annotation is None:
        return None
    plain = [part for part in _alternatives(annotation) if _plain(part)]
    if all(isinstance(part, ast.Constant) and part.value is None for part in plain):
        return ""
    return " | ".join(ast.unparse(part) for part in plain)


def _alternatives(annotation: ast.expr) -> list[ast.expr]:
    """The members of a union, in their order; a type that is none stands alone."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_alternatives(annotation.left), *_alternatives(annotation.right)]
    return [annotation]


def _plain(annotation: ast.expr) -> bool:
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)} <= PLAIN


def _args_help(doc: str) -> dict[str, str]:
    helps: dict[str, str] = {}
    inside, current = False, ""
    for line in doc.splitlines():
        text = line.strip()
        if text in ("Args:", "Attributes:"):
            inside = True
        elif inside and text and not line.startswith((" ", "\t")):
            inside = False
        elif inside and ":" in text and text.split(":")[0].replace("*", "").replace(", ", "").isidentifier():
            current, _, rest = text.partition(":")
            helps[current] = rest.strip()
        elif inside and current and text:
            helps[current] += f" {text}"
    return helps


def methods(unit: str | None = None, kind: str | None = None, needs: str | None = None) -> tuple[Method, ...]:
    """The catalogue, filtered."""
    if kind is not None and kind not in KINDS:
        raise UnknownName("kind", kind, KINDS)
    return tuple(
        m
        for m in catalogue().values()
        if (unit is None or m.unit == unit) and (kind is None or m.kind == kind) and (needs is None or needs in m.needs)
    )


def find_first(name: str, units: tuple[str, ...], kind: str | tuple[str, ...] | None = None) -> Method:
    """`find` for the first of the units that has a method of this name; where none has, the error is that of the first."""
    for unit in units[1:]:
        if "/" not in name and not any(one.name == name for one in methods(unit=units[0])):
            try:
                return find(name, unit=unit, kind=kind)
            except UnknownName:
                continue
    return find(name, unit=units[0], kind=kind)


def find(name: str, *, unit: str | None = None, kind: str | tuple[str, ...] | None = None) -> Method:
    """A method by id (`rows/el2n`) or by bare name where that is unique for the unit and kind.

    Raises:
        UnknownName: no such method; names the nearest.
        BadInput: a bare name that several methods share; lists them.
    """
    kinds = (kind,) if isinstance(kind, str) else kind
    if "/" in name:
        if name not in catalogue():
            raise UnknownName("method", name, catalogue())
        return catalogue()[name]
    fits = [
        m
        for m in catalogue().values()
        if m.name == name and (unit is None or m.unit in (unit, "")) and (kinds is None or m.kind in kinds)
    ]
    if len(fits) > 1 and unit is not None:
        fits = [m for m in fits if m.unit == unit] or fits
    if not fits:
        known = [
            m.name
            for m in catalogue().values()
            if (unit is None or m.unit in (unit, "")) and (kinds is None or m.kind in kinds)
        ]
        raise UnknownName(f"{'/'.join(kinds) if kinds else 'method'}{f' for {unit}' if unit else ''}", name, known)
    if len(fits) > 1:
        raise BadInput(f"{name!r} is the name of several methods; write one of {', '.join(m.id for m in fits)}")
    return fits[0]
