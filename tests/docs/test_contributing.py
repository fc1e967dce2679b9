"""CONTRIBUTING's example, word for word: the file is dropped into a copy of the tree, and everything finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from docs.pages import ROOT, blocks


@pytest.fixture(scope="module")
def example():
    """Title -> text of the titled blocks."""
    return {block.title: block.text for block in blocks(ROOT / "CONTRIBUTING.md") if block.title}


@pytest.fixture(scope="module")
def tree(tmp_path_factory, example):
    """A copy of the sources, tests of the house and docs, with the new file in its place."""
    root = tmp_path_factory.mktemp("clone")
    for folder in ("src", "tests/house", "tests/docs", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for file in ("CONTRIBUTING.md", "CHANGELOG.md", "README.md"):
        shutil.copy(ROOT / file, root / file)
    (path,) = [title for title in example if title.startswith("src/")]
    assert not (root / path).exists(), f"{path} exists: the example needs another name"
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_text(example[path], "utf-8")
    return root


def python(tree, code: str) -> subprocess.CompletedProcess[str]:
    """Run code against the copy, in a process of its own."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tree / "src"), str(tree / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run([sys.executable, "-c", code], cwd=tree, env=env, capture_output=True, text=True, check=False)


def test_the_example_is_found_and_scores(tree, example):
    done = python(tree, example["try it"])
    assert done.returncode == 0, done.stderr


def test_the_example_keeps_the_house_rules(tree):
    rules = [f"tests/house/test_{name}.py" for name in ("shape", "catalogue", "imports")]
    code = f"import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *{rules}, '-k', 'gini']))"
    done = python(tree, code)
    assert done.returncode == 0, done.stdout


def test_the_example_has_a_page_and_a_catalogue_row(tree):
    code = "from docs.pages import generator as g; p = g().pages(); print(p['methods/rows/gini.md']); print(p['methods/index.md'])"
    done = python(tree, code)
    assert done.returncode == 0, done.stderr
    assert "# Gini impurity" in done.stdout
    assert "| `power` | `float` | `2.0` | exponent of the probabilities" in done.stdout
    assert "[Gini impurity](rows/gini.md)" in done.stdout
