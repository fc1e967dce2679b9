"""Runs the tiny recipe in a process of its own, to be killed: child.py RUNS JOBS."""

from __future__ import annotations

import copy
import sys

from prunus.recipe import parse
from prunus.run import run_recipe
from prunus.run.resolve import resolve
from run import tiny_stages

if __name__ == "__main__":
    recipe = parse(copy.deepcopy(tiny_stages.RECIPE))
    graph = resolve(recipe, tiny_stages.facts)
    run_recipe(recipe, graph=graph, stages="run.tiny_stages:STAGES", runs=sys.argv[1], jobs=int(sys.argv[2]))
