"""What a request refuses, and what it says then."""

from __future__ import annotations

import numpy as np
import pytest

from prunus.allocate.erk import densities, erk
from prunus.allocate.global_ import global_
from prunus.allocate.proportional import proportional
from prunus.allocate.request import Request
from prunus.allocate.strata import strata
from prunus.core.errors import BadInput, BudgetUnreachable, NonFinite


def test_unreachable_totals_name_the_nearest():
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 6") as above:
        Request.of([2, 4], 7)
    assert above.value.nearest == "6"
    assert above.value.exit_code == 3
    with pytest.raises(BudgetUnreachable, match="floors need; nearest reachable: 3"):
        Request.of([2, 4, 5], 2, floors=1)
    with pytest.raises(BudgetUnreachable, match="nearest reachable: 14"):
        Request.of([2, 4], 15, costs=[1.0, 3.0])


def test_floors_and_caps_are_clipped_to_the_size():
    request = Request.of([2, 0, 9], 8, floors=3, caps=6)
    assert request.floors.tolist() == [2, 0, 3]
    assert request.caps.tolist() == [2, 0, 6]
    with pytest.raises(BadInput, match="group '1': floor 4 is above cap 3"):
        Request.of([2, 9], 6, floors=4, caps=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a"]}, "1 names for 2 groups"),
        ({"names": ["a", "a"]}, "unique"),
        ({"floors": -1}, "negative"),
        ({"floors": [1, 2, 3]}, "one for each of 2 groups"),
        ({"caps": 1.5}, "whole numbers"),
        ({"costs": 0.0}, "above 0"),
        ({"scores": [np.ones(2)]}, "scores of 1 groups"),
        ({"scores": [np.ones(2), np.ones(5)]}, "4 units and 5 scores"),
        ({"shapes": [(2, 1)]}, "1 shapes for 2"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(BadInput, match=message):
        Request.of([2, 4], 3, **options)


def test_numbers_must_be_finite():
    with pytest.raises(NonFinite, match="total"):
        Request.of([2], float("nan"))
    with pytest.raises(NonFinite, match="group '0'"):
        Request.of([2], 1, scores=[np.array([1.0, np.nan])])
    with pytest.raises(NonFinite, match="costs"):
        Request.of([2], 1, costs=float("inf"))
    with pytest.raises(BadInput, match="not a whole number"):
        Request.of([2], 1.5)


def test_allocators_say_what_they_miss():
    with pytest.raises(BadInput, match="has none: pass scores="):
        global_(Request.of([2], 1))
    with pytest.raises(BadInput, match="by='size'"):
        proportional(Request.of([2], 1), by="score")
    with pytest.raises(BadInput, match="at least 0"):
        proportional(Request.of([2], 1, scores=[np.array([-1.0, 1.0])]), by="score")
    with pytest.raises(BadInput, match="costs of 1"):
        strata(Request.of([2, 3], 4, costs=[1.0, 2.0]))
    with pytest.raises(BadInput, match="power"):
        proportional(Request.of([2], 1), power=-1)
    with pytest.raises(BadInput, match="shape"):
        erk(Request.of([2], 1))
    with pytest.raises(BadInput, match="6 weights but shape"):
        erk(Request.of([6], 1, shapes=[(2, 2)]))
    with pytest.raises(BadInput, match="biases and norms"):
        densities([(4,)], 0.5)
    with pytest.raises(BadInput, match="between 0 and 1"):
        densities([(4, 4)], 1.5)


def test_default_names_sort_as_positions():
    assert Request.of([1] * 11, 3).names[9:] == ("09", "10")
