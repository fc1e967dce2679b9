"""How long `import prunus` and `prunus --help` take: median wall seconds of fresh processes, printed as JSON.

Budgets: `import prunus` 0.3 s, `--help` 0.7 s. Numbers depend on the machine; tests/house asserts what is imported.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

REPEATS = 11
COMMANDS = {
    "python": ["-c", "pass"],
    "import prunus": ["-c", "import prunus"],
    "prunus --help": ["-m", "prunus", "--help"],
    "prunus methods": ["-m", "prunus", "methods"],
}
BUDGETS = {"import prunus": 0.3, "prunus --help": 0.7}


def seconds(arguments: list[str]) -> float:
    """Wall seconds of one fresh interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Interleave the commands so that a busy moment hurts all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    rows = {
        name: {
            "median_s": round(statistics.median(taken), 3),
            "min_s": round(min(taken), 3),
            "budget_s": BUDGETS.get(name),
        }
        for name, taken in times.items()
    }
    print(json.dumps({"repeats": REPEATS, "python": sys.version.split()[0], "commands": rows}, indent=1))


if __name__ == "__main__":
    main()
