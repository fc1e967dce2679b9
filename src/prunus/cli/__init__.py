"""The command line: files in, files out, one verb a step of the flow. Nothing heavy is imported before a verb runs.

Exit codes: 0 done, 1 failed, 2 bad input, 3 budget unreachable, 4 gate failed, 5 resources.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence

import typer

from prunus.cli import (
    advise,
    apply,
    catalogue,
    check,
    compare,
    duplicates,
    export,
    measure,
    plan,
    recover,
    report,
    run,
    score,
    signals,
    sweep,
    understand,
)  # fmt: skip
from prunus.cli.show import note
from prunus.core.errors import PrunusError

app = typer.Typer(
    name="prunus",
    help="Prune data, models and tokens: physically smaller results, honest measurements, random beside every method.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (
    catalogue,
    check,
    advise,
    duplicates,
    signals,
    score,
    plan,
    apply,
    export,
    recover,
    measure,
    compare,
    report,
    sweep,
    run,
    understand,
):
    verb.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run the verb, print a refusal as one line, and exit with its code.

    Args:
        arguments: default those of the process.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a bar in a log file is noise
    warnings.showwarning = _warned
    logging.getLogger("prunus").setLevel(logging.WARNING)
    try:
        app(None if arguments is None else list(arguments))
    except PrunusError as error:
        note(f"error: {' '.join(str(error).split())}")
        sys.exit(error.exit_code)


def _warned(message: Warning | str, *_: object, **__: object) -> None:
    """Warnings of libraries as one line, without the place in their code."""
    note(f"warning: {' '.join(str(message).split())}")
