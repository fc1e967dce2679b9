"""The documentation says what is so: its code runs, its recipes parse, its pages come from the sources."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from docs.pages import ROOT, blocks, generator, prose_pages
from prunus.core import registry

RUN = [path for path in prose_pages() if any(block.run for block in blocks(path))]
METHODS = registry.methods()


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", RUN, ids=name)
def test_marked_blocks_run(path, tmp_path, monkeypatch, capsys):
    """Page by page, in the order of the page, in an empty folder; an output block that follows must be what was printed."""
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "page"}
    found = blocks(path)
    for block, after in zip(found, [*found[1:], None]):
        if not block.run:
            continue
        code = "\n" * (block.line - 1) + block.text
        exec(compile(code, str(path), "exec"), scope)
        printed = capsys.readouterr().out
        if after is not None and after.language == "text":
            assert printed == after.text


@pytest.mark.parametrize("path", prose_pages(), ids=name)
def test_python_blocks_are_python_and_recipes_are_toml(path):
    for block in blocks(path):
        if block.language == "python":
            ast.parse(block.text)
        if block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.parametrize("path", prose_pages(), ids=name)
def test_links_between_pages_lead_somewhere(path):
    made = {ROOT / "docs" / page for page in generator().pages()}
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
        place = (path.parent / target).resolve()
        assert place.exists() or place in made, f"{name(path)} links to {target}"


def test_the_catalogue_lists_every_method_and_every_page_exists():
    pages = generator().pages()
    listed = set(re.findall(r"\]\(([^)]+)\.md\)", pages["methods/index.md"]))
    assert listed == {method.id for method in METHODS}
    assert all(f"methods/{method.id}.md" in pages for method in METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_method_page_tells_what_the_source_tells(method):
    page = generator().method_page(method)
    assert page.startswith("# ")
    assert f"`{method.id}`" in page
    assert all(f"`{option.name}`" in page for option in method.options)
    for section in generator().SECTIONS:
        assert (f"## {section}\n" in page) == bool(method.section(section))


def test_prose_of_docstrings_stays_prose():
    made = generator()
    assert made.prose("|w| * ||x|| < 1, `a * b`") == "|w| \\* ||x|| &lt; 1, `a * b`"
    assert "|" not in made.cell("|w|")


def test_every_page_has_a_place_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    own = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    own = {page for page in own if not page.startswith(("decisions/", "results/"))}
    assert own <= set(re.findall(r"[\w/-]+\.md", text))
