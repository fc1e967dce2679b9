"""Which data-pruning methods beat random rows? The digits recipe from beginning to end, or on from where it stopped.

    PYTHONPATH=src python benchmarks/data_pruning.py

Runs recipes/data-pruning-digits.toml (under ten minutes on two cores) in runs/, and prints a line of JSON for every cell of its
tables: method, setting, share kept, mean paired difference from random_balanced with its 95 % interval, and the word. The last line
names the report. `--recipe FILE` runs another one, words such as run.seeds=[0,1] change keys.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from prunus.recipe import load
from prunus.report import runfolder
from prunus.run import run_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "data-pruning-digits.toml"


def main() -> None:
    """Run, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default=str(RECIPE))
    parser.add_argument("--runs", default="runs")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_args()
    begun = time.perf_counter()
    done = run_recipe(load(asked.recipe, asked.changes), runs=asked.runs, jobs=asked.jobs)
    seconds = time.perf_counter() - begun
    for heat in runfolder.read(done.folder).heats:
        for row in heat.rows:
            for (setting, budget), cell in zip(heat.columns, row.cells):
                if cell is not None:
                    where = {
                        "setting": ", ".join(filter(None, [setting, heat.title])),
                        "budget": budget,
                        "method": row.name,
                    }
                    told = {
                        "difference": cell.difference,
                        "interval": cell.interval,
                        "word": cell.word,
                        "pairs": cell.pairs,
                    }
                    emit(
                        {
                            **where,
                            "against": heat.against,
                            **told,
                            "break_even": cell.break_even,
                            "upfront": row.upfront,
                        }
                    )
    emit({"report": str(done.folder / "report.html"), "seconds": round(seconds, 1), "reused_stages": done.reused})


def emit(line: dict[str, object]) -> None:
    """One JSON object a line."""
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
