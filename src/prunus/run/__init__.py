"""Running recipes: a graph of stages, each result a whole entry of the store: a death costs the stages under way."""

from prunus.run.recipe_run import RunReport, run_recipe
from prunus.run.stage import Estimate, Graph, Node, Stage, Tag

__all__ = ["Estimate", "Graph", "Node", "RunReport", "Stage", "Tag", "run_recipe"]
