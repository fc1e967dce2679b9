"""Makefile, CI, pins and README tell the same story."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from house.source import ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PINS = (ROOT / "constraints.txt").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def canonical(requirement: str) -> str:
    """The name in a requirement, as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


def test_every_target_people_are_told_of_exists():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    told = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run", *sorted((ROOT / "docs").rglob("*.md"))]
    for path in told:
        named = set(re.findall(r"(?:^|`|\$ |; |then )make ([a-z]+)", path.read_text("utf-8"), flags=re.MULTILINE))
        assert named <= targets, f"{path.name} names {sorted(named - targets)}"


@pytest.mark.parametrize("target", ["help", "demo", "test", "check", "bench", "docs", "models"])
def test_make_knows_what_to_do(target):
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_ci_does_nothing_the_readme_does_not_say():
    readme = (ROOT / "README.md").read_text("utf-8")
    steps = re.findall(r"make ([a-z]+)", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert steps == ["chromium", "test"]
    assert all(f"make {step}" in readme for step in steps)


def test_everything_that_make_installs_is_pinned():
    pinned = {canonical(line) for line in PINS.splitlines() if "==" in line}
    extras = set(",".join(re.findall(r"_EXTRAS := (.*)", MAKEFILE)).split(","))
    assert extras <= set(PROJECT["optional-dependencies"])
    wanted = [*PROJECT["dependencies"], *(r for extra in extras for r in PROJECT["optional-dependencies"][extra])]
    wanted += re.findall(r"(?<=--no-deps ).*", MAKEFILE)[0].split()
    assert {canonical(requirement) for requirement in wanted} <= pinned


def test_pins_are_exact_and_name_no_place():
    lines = [line for line in PINS.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    assert lines == sorted(lines, key=str.lower)


def test_the_version_is_said_once():
    from prunus import __version__

    assert PROJECT["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
