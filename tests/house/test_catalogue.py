"""Every method tells what a reader needs, and every method with a card is held by a golden case of that card."""

from __future__ import annotations

import re

import pytest

from house.source import PACKAGE, ROOT
from prunus.core import registry

METHODS = registry.methods()
SECTIONS = ("Removes", "Needs", "Cost", "Departures")
HAS_UNIT = [m for m in METHODS if m.room in registry.UNIT_ROOMS]


def test_the_catalogue_is_not_empty():
    assert METHODS


@pytest.mark.parametrize("method", HAS_UNIT, ids=lambda m: m.id)
def test_method_page_can_be_written(method):
    missing = [name for name in SECTIONS if not method.section(name)]
    assert not missing, f"{method.path.relative_to(PACKAGE)}: the module docstring lacks {missing}"


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_first_line_says_what_it_is(method):
    assert ":" in method.paper, f"{method.path.relative_to(PACKAGE)}: begin with 'Name: what it is (Authors year).'"


SELECTORS = [m for m in METHODS if m.kind == "selector" and m.unit in ("", "rows")]
SIZE = re.compile(r"\bn(\b|²|_)")


@pytest.mark.parametrize("method", SELECTORS, ids=lambda m: m.id)
def test_selectors_of_rows_state_time_and_memory_as_formulas(method):
    time, found, memory = method.cost.lower().partition("memory")
    assert found and SIZE.search(time) and SIZE.search(memory), (
        f"{method.id}: say under Cost what time and memory are in n"
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
def test_every_option_has_help(method):
    silent = [option.name for option in method.options if not option.help]
    assert not silent, f"{method.id}: write a line under Args for {silent}"


# Cards whose methods are described without a published case: nothing to hold them to but their own tests.
NO_CASE = {
    "token-baselines": "its methods are published apart: the cases are called tome, evit and fastv",
    "filter-verified": "answers verified by a callable; no arrays were published",
    "behaviour-drift": "a protocol of measurements on prompts",
    "eval-hallucination": "a protocol of measurements on answers",
    "eval-thinking-cost": "a protocol of measurements on token counts",
    "lth-rewind": "a training protocol; its masks are those of the card lth",
    "nnetnav-pruning": "judged by language models; no arrays were published",
    "sae-concepts": "needs a trained autoencoder; no arrays were published",
    "simplicity-bias-probe": "its data sets are the case of the card simplicity-bias",
    "survey-pruning": "a checklist; its rules are those of other cards",
}


@pytest.mark.parametrize("card", sorted({m.card for m in METHODS if m.card} - set(NO_CASE)))
def test_card_has_a_golden_test(card):
    path = ROOT / "tests" / "golden" / f"test_{card.replace('-', '_')}.py"
    assert path.is_file(), (
        f"methods {[m.id for m in METHODS if m.card == card]} name the card {card}: write {path.name}"
    )


@pytest.mark.parametrize("card", sorted(NO_CASE))
def test_card_without_a_case_has_none(card):
    assert NO_CASE[card]
    assert not list((ROOT / "tests" / "golden" / "cases").glob(f"{card}--*.npz")), f"there is a case of {card}: use it"
