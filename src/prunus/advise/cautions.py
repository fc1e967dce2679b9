"""What speaks against an answer: signals that do not pay, measurements that are of something else, methods that keep nothing."""

from __future__ import annotations

from collections.abc import Sequence

from prunus.advise.lookup import FAR, Column, Expected, key, methods_of
from prunus.advise.probe import Situation
from prunus.advise.words import percent

COPIES = 0.01
INPUTS = {3: "images", 1: "columns", 0: "text or other things"}


def of_cost(tried: Sequence[Expected], trainings: float, equal: str) -> list[str]:
    """Signals that cost more than the planned trainings save."""
    dear = {key(one.arm): one for one in tried if one.break_even > trainings}
    if not dear:
        return []
    names = ", ".join(one.arm.name for one in dear.values())
    if equal == "steps":
        return [f"at equal steps training is not shorter: signals and selection are never paid back ({names})"]
    low, high = (f(one.break_even for one in dear.values()) for f in (min, max))
    after = f"{low:.1f}" if high - low < 0.1 else f"{low:.1f} to {high:.1f}"
    planned = "1 training is" if trainings == 1 else f"{trainings:g} trainings are"
    return [
        f"signals cost more than they save: paid back after {after} trainings on what is kept, and {planned} planned ({names})"
    ]


def of_place(situation: Situation, columns: Sequence[Column]) -> list[str]:
    """What makes the nearest measurements say little, and what to do first."""
    found, table = [], columns[0].table
    if columns[0].distance > FAR:
        found.append(
            f"the nearest measurement is far from this ({columns[0].distance:.1f} steps): take it as a hint, and run --verify"
        )
    here, there = (INPUTS.get(len(inputs), INPUTS[0]) for inputs in (situation.inputs, table.inputs))
    if here != there:
        found.append(f"measured on {there}, and these rows are {here}: take it as a hint, and run --verify")
    if situation.noise is None and situation.classes:
        bound = "" if situation.noise_at_most is None else f" (at most {percent(situation.noise_at_most)})"
        found.append(
            f"how many labels are wrong is not known{bound}, and none was assumed: give --noise, or --signals with an embedding "
            "that tells the classes apart"
        )
    if not situation.classes:
        found.append(
            "without labels only methods that go by embeddings are left, measured with embeddings of a labelled training"
        )
    if situation.imbalance is not None and situation.imbalance > 2 * table.imbalance:
        found.append(
            f"the largest class has {situation.imbalance:.1f} times the rows of the smallest, {table.imbalance:.1f} where it was "
            "measured: rank within each class (prunus plan --within class), or keep some of each (--allocate uniform --over class "
            "--floor 20)"
        )
    if situation.copies > COPIES:
        found.append(
            f"{100 * situation.copies:.1f} % of the rows are copies of others: let these go first (prunus check)"
        )
    return found


def of_dynamic(shortlist: Sequence[Expected]) -> list[str]:
    """Methods that choose anew in every epoch keep nothing for good."""
    return [
        f"{one.arm.name} chooses rows anew in every epoch: all of them must stay at hand"
        for one in shortlist
        if methods_of(one.arm)[0].kind == "dynamic"
    ]
