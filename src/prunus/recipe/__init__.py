"""Recipes: one TOML file says what is pruned, how, how much, and what it is compared with.

`[run]`, `[data]`, `[model]`, `[train]`, `[signals]`, `[recover]`, `[measure]`, `[controls]`, `[report]` and one
`[[arms]]` for each thing tried. data, model, train, signals, recover and measure may be several (`[data.text]`,
`[data.images]`): arms choose by name, and a single one needs no name. A list where one value stands is a sweep: budgets
run inside an arm; methods, selectors, allocators and compensators make arms of their own.
"""

from prunus.recipe.cases import Case, Step, cases
from prunus.recipe.load import load, parse
from prunus.recipe.schema import Recipe

__all__ = ["Case", "Recipe", "Step", "cases", "load", "parse"]
