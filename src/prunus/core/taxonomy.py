"""The axes of a survey of pruning as facts of every method: what kind of speed-up, when, by what, with which data.

After Cheng et al. 2024 (A Survey on Deep Neural Network Pruning). A place follows from what a method's file says: its unit, its
kind, the signals it reads. A decorator that says `when=` or `family=` is believed instead. Rows are no axis of the survey: they
have their own unit here and only the axes of data.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from prunus.core.errors import UnknownName
from prunus.core.registry import Method

MODEL_UNITS = ("weights", "channels", "layers", "ranks", "experts", "tokens")
REMOVES = ("criterion", "solver", "search", "dynamic", "schedule")
AXES: dict[str, tuple[str, ...]] = {
    "speedup": ("unstructured", "structured", "data"),
    "when": ("before", "during", "after", "runtime"),
    "family": (
        *("random", "magnitude", "activation", "first-order", "second-order", "flow", "redundancy", "relevance"),
        *("loss", "learned", "schedule", "training dynamics", "uncertainty", "geometry", "attention"),
    ),
    "data": ("free", "unlabelled", "labelled"),
}
SPEEDUP = {"weights": "unstructured", "rows": "data", "pairs": "data", "tables": "data"}
RUNTIME = "needs masks that kernels use: N:M on hardware, CSR above about 80 %"
KERNELS = {"unstructured": RUNTIME, "structured": "any: plain dense kernels", "data": "any: fewer rows"}
INITIAL = ("precropping", "snip", "grasp", "synflow")  # cut networks that were not trained
HELD = {"weight", "bias", "ids", "scores", "shapes", "filters", "features"}  # there without a pass over data
FAMILY_OF = {  # the strongest signal that a method reads says what it judges by
    "relevance": ("output_relevance", "output_relevance_signed"),
    "second-order": ("hessian", "fisher_blocks", "block_fisher", "grad_square", "gradient_covariance", "covariance"),
    "flow": ("synflow", "block_synflow"),
    "first-order": ("grad", "grad_norm", "block_saliency", "gradient_variance", "factors"),
    "redundancy": ("block_cka", "block_cka_without", "block_influence", "input_rank", "output_spread"),
    "activation": ("input_norm", "input_mean", "input_var", "input_off", "input_pooled"),
    "attention": ("cls_attention", "received_attention"),
    "training dynamics": ("aum", "correctness", "forgetting", "window_std", "window_dual", "el2n_sum"),
    "uncertainty": ("probs", "logits", "margin", "held_out_probs", "boundary_distance"),
    "geometry": ("embedding", "features"),
    "loss": ("loss",),
}
LABELLED = {
    "labels",
    "loss",
    "grad",
    "grad_square",
    "fisher_blocks",
    "grad_norm",
    "gradient_variance",
    "block_saliency",
}


@dataclass(frozen=True)
class Place:
    """Where a method stands.

    Attributes:
        speedup: unstructured, structured; data for methods over rows.
        when: before, during or after training, or at run time.
        family: what it judges by.
        data: free, unlabelled or labelled: what it reads.
    """

    speedup: str
    when: str
    family: str
    data: str


def place(method: Method) -> Place | None:
    """The place of a method that removes something; None for the others."""
    if method.kind not in REMOVES or not method.unit:
        return None
    return Place(SPEEDUP.get(method.unit, "structured"), _when(method), _family(method), _data(method))


def fits(method: Method, **wanted: str | None) -> bool:
    """Whether a method stands where every axis that is given says.

    Raises:
        UnknownName: a value that the axis does not have.
    """
    asked = {axis: value for axis, value in wanted.items() if value is not None}
    for axis, value in asked.items():
        if value not in AXES[axis]:
            raise UnknownName(axis, value, AXES[axis])
    if not asked:
        return True
    found = place(method)
    facts: dict[str, Any] = asdict(found) if found is not None else {}
    return all(facts.get(axis) == value for axis, value in asked.items())


def _when(method: Method) -> str:
    if "when" in method.facts:
        return str(method.facts["when"])
    if method.unit == "tokens":
        return "runtime"
    if method.name in INITIAL:
        return "before"
    if method.kind in ("dynamic", "schedule"):
        return "during"
    return "before" if method.unit in SPEEDUP and method.unit != "weights" else "after"


def _family(method: Method) -> str:
    if "family" in method.facts:
        return str(method.facts["family"])
    if method.name.startswith("random") or method.name == "rs2":
        return "random"
    if method.kind == "schedule":
        return "schedule"
    if method.kind == "search":
        return "learned"
    for family, signals in FAMILY_OF.items():
        if set(signals) & set(method.needs):
            return family
    return "magnitude" if method.unit in MODEL_UNITS else "geometry" if method.unit == "rows" else "loss"


def _data(method: Method) -> str:
    if "data" in method.facts:
        return str(method.facts["data"])
    needs = set(method.needs) - HELD
    if method.kind == "search" or LABELLED & needs:
        return "labelled"
    return "unlabelled" if needs else "free"
