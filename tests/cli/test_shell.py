"""The installed command in a process of its own: what a shell sees."""

from __future__ import annotations

import subprocess
import sys

from prunus.cli import app


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "prunus", *words], capture_output=True, text=True, check=False)


def test_help_lists_every_verb_in_the_order_of_the_flow():
    found = run("--help")
    assert found.returncode == 0
    verbs = [
        "check",
        "advise",
        "duplicates",
        "signals",
        "score",
        "plan",
        "apply",
        "export",
        "recover",
        "measure",
        "compare",
        "report",
        "sweep",
        "run",
        "demo",
        "audit",
        "regimes",
    ]
    places = [found.stdout.index(f"\n  {verb}  ") for verb in verbs]
    assert places == sorted(places)
    assert len(app.registered_commands) == len(verbs) + 1


def test_an_error_is_one_line_and_a_code():
    found = run("plan", "nowhere", "el2n", "30% rows", "--out", "p")
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.strip().splitlines() == ["error: there is no file or folder 'nowhere'"]
