"""The catalogue reads methods from source text and imports none of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from prunus.core import registry
from prunus.core.errors import BadInput, UnknownName

SOURCE = '''"""Thing: a score (Someone 2020).

Removes: rows.
Cost: one pass
  and a half.
"""
@criterion(unit="rows", needs=("probs",), sense="hard", card="thing")
def thing(s, *, power: float = 2.0, mode: str = "a", rng=None):
    """Score.

    Args:
        power: exponent, at
            least one.
        mode: which one.
    """
'''


def test_reads_facts_options_and_help(tmp_path: Path):
    path = tmp_path / "thing.py"
    path.write_text(SOURCE)
    (method,) = registry._read("prunus.rows.thing", path)
    assert (method.id, method.kind, method.unit, method.needs) == ("rows/thing", "criterion", "rows", ("probs",))
    assert method.paper == "Thing: a score (Someone 2020)."
    assert method.cost == "one pass and a half."
    assert [(o.name, o.type, o.default) for o in method.options] == [("power", "float", 2.0), ("mode", "str", "a")]
    assert method.options[0].help == "exponent, at least one."
    with pytest.raises(UnknownName, match="power"):
        method.check_options({"powr": 1})


def test_of_a_union_people_type_what_can_be_typed(tmp_path: Path):
    path = tmp_path / "thing.py"
    given = 'power: float = 2.0, mode: str = "a"'
    for typed, expected in (
        ("str | Score | None", [("cut", "str | None")]),
        ("Score | None", []),
        ("tuple[int, ...] | Score", [("cut", "tuple[int, ...]")]),
        ("Literal['a', 'b'] | float", [("cut", "Literal['a', 'b'] | float")]),
    ):
        path.write_text(SOURCE.replace(given, f"cut: {typed} = None"))
        (method,) = registry._read("prunus.rows.thing", path)
        assert [(o.name, o.type) for o in method.options] == expected and method.keywords == ("cut",)


def test_a_type_that_the_module_names_is_spelled_out(tmp_path: Path):
    path = tmp_path / "thing.py"
    path.write_text("Mode = Literal['a', 'b']\n" + SOURCE.replace("mode: str", "mode: Mode"))
    (method,) = registry._read("prunus.rows.thing", path)
    assert [option.type for option in method.options] == ["float", "Literal['a', 'b']"]


def test_arguments_must_be_literals(tmp_path: Path):
    path = tmp_path / "bad.py"
    path.write_text('x = 1\n@criterion(unit=x)\ndef bad(s):\n    """."""\n')
    with pytest.raises(BadInput, match="literals"):
        list(registry._read("prunus.rows.bad", path))


def test_every_listed_method_loads_as_what_it_says():
    for method in registry.catalogue().values():
        loaded = method.load()
        assert loaded.kind == method.kind, method.id
        assert loaded.facts == method.facts, method.id


def test_catalogue_imports_no_method_and_no_torch():
    code = "import sys; from prunus.core import registry; registry.catalogue()"
    code += "; print('torch' in sys.modules, 'numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_unknown_names_are_helped():
    with pytest.raises(UnknownName):
        registry.find("rows/nothing_like_it")
