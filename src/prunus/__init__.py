"""prunus: prune data, models and tokens; recover what was lost; measure what was won.

Names are imported when they are used, so `import prunus` is quick and brings neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunus.advise.ask import advice as advice
    from prunus.core.budget import Budget as Budget
    from prunus.core.plan import Plan as Plan
    from prunus.core.results import Results as Results
    from prunus.core.score import Score as Score
    from prunus.flow.compare import compare as compare
    from prunus.flow.curation import compare_rows as compare_rows
    from prunus.flow.density_table import density_table as density_table
    from prunus.flow.duplicates import near_duplicates as near_duplicates
    from prunus.flow.label_issues import label_issues as label_issues
    from prunus.flow.onnx_file import to_onnx as to_onnx
    from prunus.flow.plan import plan as plan
    from prunus.flow.plan import score as score
    from prunus.flow.proof import prove as prove
    from prunus.flow.recover import recover as recover
    from prunus.flow.save import kept as kept
    from prunus.flow.save import load as load
    from prunus.flow.save import save as save
    from prunus.flow.signals import Fit as Fit
    from prunus.flow.sparse import to_sparse as to_sparse
    from prunus.flow.while_training import Pruning as Pruning
    from prunus.maths.perceptron_theory import expected_errors as expected_errors
    from prunus.prunables.combined import combine as combine
    from prunus.prunables.dataset import Dataset as Dataset
    from prunus.prunables.model import ModelPrunable as ModelPrunable
    from prunus.prunables.stream import TokenStream as TokenStream
    from prunus.rows.sampler import BatchSampler as BatchSampler
    from prunus.rows.sampler import Sampler as Sampler
    from prunus.signals.collect import collect as collect
    from prunus.signals.recorder import Recorder as Recorder
    from prunus.signals.rowset import Signals as Signals
    from prunus.sources.models import open_model as open_model
    from prunus.sources.open import open_data as open_data
    from prunus.train.loop import fit as fit
    from prunus.train.masks import Masks as Masks
    from prunus.train.step import Step as Step

__version__ = "0.1.0"

_PLACES = {
    "advice": "advise.ask",
    "Budget": "core.budget",
    "Plan": "core.plan",
    "Results": "core.results",
    "Score": "core.score",
    "compare": "flow.compare",
    "label_issues": "flow.label_issues",
    "near_duplicates": "flow.duplicates",
    "compare_rows": "flow.curation",
    "to_onnx": "flow.onnx_file",
    "plan": "flow.plan",
    "score": "flow.plan",
    "prove": "flow.proof",
    "recover": "flow.recover",
    "kept": "flow.save",
    "density_table": "flow.density_table",
    "load": "flow.save",
    "save": "flow.save",
    "Fit": "flow.signals",
    "to_sparse": "flow.sparse",
    "Pruning": "flow.while_training",
    "expected_errors": "maths.perceptron_theory",
    "combine": "prunables.combined",
    "Dataset": "prunables.dataset",
    "ModelPrunable": "prunables.model",
    "TokenStream": "prunables.stream",
    "BatchSampler": "rows.sampler",
    "Sampler": "rows.sampler",
    "collect": "signals.collect",
    "Recorder": "signals.recorder",
    "Signals": "signals.rowset",
    "open_model": "sources.models",
    "open_data": "sources.open",
    "fit": "train.loop",
    "Masks": "train.masks",
    "Step": "train.step",
}
__all__ = [*sorted(_PLACES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'prunus' has no attribute {name!r}")
    return getattr(importlib.import_module(f"prunus.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
