"""The command line: files in, files out, one verb a step of the flow. Nothing heavy is imported before a verb runs.

Exit codes: 0 done, 1 failed, 2 bad input, 3 budget unreachable, 4 gate failed, 5 resources.
"""

from __future__ import annotations

import sys

import typer

from prunus.cli import catalogue, check, experiments, models, rows
from prunus.core.errors import PrunusError

app = typer.Typer(
    name="prunus",
    help="Prune data, models and tokens: physically smaller results, honest measurements, random beside every method.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verbs in (catalogue, check, rows, models, experiments):
    verbs.register(app)


def main() -> None:
    """Entry point: run the verb, print a refusal as one line, and exit with its code."""
    try:
        app()
    except PrunusError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
