"""Fenced blocks of Markdown files, and the page generator, for the tests of the documentation."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<mark><!-- run -->\n)?```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its title, whether it is marked to be run, its text and its line."""

    language: str
    title: str
    run: bool
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a Markdown file, in order."""
    source = path.read_text("utf-8")
    found = []
    for match in FENCE.finditer(source):
        language, _, rest = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]*)"', rest)
        line = source.count("\n", 0, match.start("text")) + 1
        found.append(Block(language, title[1] if title else "", match["mark"] is not None, match["text"], line))
    return found


def prose_pages() -> list[Path]:
    """Every Markdown page people wrote."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def generator() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
