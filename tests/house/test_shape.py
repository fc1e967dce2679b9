"""The size and shape of the code: what a reader meets, file by file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from house.source import PACKAGE, ROOT, files, functions, imported, tree, where

FILE_LINES, FUNCTION_LINES, NESTING = 400, 60, 3
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"exec", "eval", "compile", "__import__"}
LOOPS_AND_BRANCHES = (ast.For, ast.While, ast.If, ast.Try, ast.Match)
OWN_RANDOM = {"RandomState", "default_rng", "Generator", "SeedSequence", "PCG64", "Philox"}
MAY_SET_THREADS = {"cli", "run", "measure", "demo"}

each_file = pytest.mark.parametrize("path", files(), ids=where)


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body: its signature and its docstring are its help text and its page."""
    first = function.body[0]
    doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return function.end_lineno - (first.end_lineno if doc else first.lineno - 1)


def depth(node: ast.AST, level: int = 0) -> int:
    """Deepest nesting of loops and branches below a node; `elif` is no deeper than `if`."""
    deepest = level
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef | ast.Lambda):
                continue
            is_elif = field == "orelse" and isinstance(node, ast.If) and isinstance(child, ast.If) and len(value) == 1
            deeper = isinstance(child, LOOPS_AND_BRANCHES) and not is_elif
            deepest = max(deepest, depth(child, level + deeper))
    return deepest


@each_file
def test_files_stay_readable(path):
    assert len(path.read_text("utf-8").splitlines()) <= FILE_LINES
    assert path.stem not in VAGUE, "name a module after what it holds"


@each_file
def test_functions_stay_short_and_flat(path):
    for function in functions(path):
        place = f"{where(path, function.lineno)} {function.name}"
        assert code_lines(function) <= FUNCTION_LINES, f"{place} has {code_lines(function)} lines"
        assert depth(function) <= NESTING, f"{place} nests {depth(function)} deep"


@each_file
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(tree(path)), f"{where(path)} has no docstring"


@each_file
def test_no_pickle_no_exec(path):
    unsafe = [f"{name} (line {line})" for name, line in imported(path) if name.split(".")[0] in UNSAFE_MODULES]
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
            unsafe.append(f"{node.func.id}() (line {node.lineno})")
        safe = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)
        if ast.unparse(node.func) == "torch.load" and not safe:
            unsafe.append(f"torch.load without weights_only=True (line {node.lineno})")
    assert not unsafe, unsafe


@each_file
def test_no_global_random_state_and_no_thread_counts(path):
    """A seed may be set inside `with torch.random.fork_rng()`, which puts back the state it found."""
    forked = [n for n in ast.walk(tree(path)) if isinstance(n, ast.With) and "fork_rng" in ast.unparse(n.items[0])]
    restored = {id(inner) for outer in forked for inner in ast.walk(outer)}
    found = []
    if path.relative_to(PACKAGE).as_posix() == "core/rng.py":
        return  # where generators of others are put back, which tests/graph/test_record.py checks
    for node in ast.walk(tree(path)):
        name = ast.unparse(node) if isinstance(node, ast.Attribute) and id(node) not in restored else ""
        if name.startswith(("np.random.", "numpy.random.")) and name.split(".")[2] not in OWN_RANDOM:
            found.append(f"{name} (line {node.lineno})")
        if name in ("torch.manual_seed", "random.seed", "torch.random.manual_seed"):
            found.append(f"{name} (line {node.lineno})")
        if name == "torch.set_num_threads" and path.relative_to(PACKAGE).parts[0].split(".")[0] not in MAY_SET_THREADS:
            found.append(f"{name} (line {node.lineno})")
    assert not found, f"core/rng.py is the only source of randomness, the command line alone sets threads: {found}"


def test_one_level_of_inheritance():
    classes = {
        n.name: n for p in files() if p.name != "errors.py" for n in ast.walk(tree(p)) if isinstance(n, ast.ClassDef)
    }
    bases = {name: {ast.unparse(base).split("[")[0] for base in node.bases} for name, node in classes.items()}
    deep = [
        f"{name} -> {parent} -> {', '.join(bases[parent] & set(classes))}"
        for name in classes
        for parent in bases[name] & set(classes)
        if bases[parent] & set(classes)
    ]
    assert not deep, deep


def written_files() -> list[Path]:
    """Files people write, outside the tests of the rules themselves."""
    folders = [ROOT / name for name in ("src", "tests", "docs", "benchmarks", "recipes")]
    kinds = {".py", ".md", ".toml", ".html", ".css"}
    found = [p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix in kinds]
    return [p for p in found if "house" not in p.parts]


def test_nothing_is_left_to_do():
    marks = ("TO" + "DO", "FIX" + "ME", "X" * 3)
    left = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in written_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if any(mark in line.split() or f"{mark}:" in line for mark in marks)
    ]
    assert not left, left
