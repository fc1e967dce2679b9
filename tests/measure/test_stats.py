import math

import numpy as np
import pytest
from scipy import stats as reference

from prunus.core.errors import BadInput, IdMismatch, NonFinite
from prunus.measure.stats import break_even, holm, over_rows, over_seeds, ratio_interval, verdict, verdicts, wilson


def test_over_seeds_is_the_paired_t_test():
    a, b = {0: 0.91, 1: 0.93, 2: 0.90, 5: 0.2}, {0: 0.89, 1: 0.90, 2: 0.89, 9: 0.1}
    found = over_seeds(a, b)
    expected = reference.ttest_rel([0.91, 0.93, 0.90], [0.89, 0.90, 0.89])
    interval = expected.confidence_interval()
    assert found.pairs == 3
    assert found.over == "seeds"
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_one_pair_has_no_interval_and_is_a_tie():
    found = over_seeds({0: 1.0}, {0: 0.0})
    assert (found.interval, found.p, verdict(found, better="higher")) == (None, 1.0, "tie")


def test_equal_differences_are_certain():
    assert over_seeds({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.5}).p == 0
    assert over_seeds({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1


def test_no_common_seed_is_an_error():
    with pytest.raises(IdMismatch, match="no seed"):
        over_seeds({0: 1.0}, {1: 1.0})


def test_bootstrap_over_rows_covers_the_known_standard_error():
    rng = np.random.RandomState(0)
    a, b = rng.rand(400) < 0.9, rng.rand(400) < 0.8
    found = over_rows(a, b)
    gaps = a.astype(float) - b
    error = gaps.std(ddof=1) / 20
    assert found.mean == pytest.approx(gaps.mean())
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert over_rows(a, b) == found
    assert over_rows(a, a).p == 1


def test_rows_must_pair_and_be_finite():
    with pytest.raises(IdMismatch):
        over_rows([1.0], [1.0, 2.0])
    with pytest.raises(NonFinite):
        over_rows([1.0, float("nan")], [1.0, 2.0])


def test_wilson_is_the_published_interval_and_has_width_at_the_ends():
    low, high = wilson(8, 10)
    expected = reference.binomtest(8, 10).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert wilson(10, 10)[0] < 1
    assert wilson(0, 10)[1] > 0
    with pytest.raises(BadInput):
        wilson(3, 2)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_words_need_the_interval_and_the_correction():
    strong = over_seeds({i: 0.9 + i / 1000 for i in range(5)}, {i: 0.8 + i / 900 for i in range(5)})
    weak = over_seeds({0: 1.0, 1: 1.2, 2: 1.1}, {0: 0.8, 1: 1.1, 2: 1.02})
    assert verdict(strong, better="higher") == "better"
    assert verdict(strong, better="lower") == "worse"
    assert verdict(strong, better="higher", adjusted=0.2) == "tie"
    assert verdicts([strong, weak], better="higher")[0] == "better"


def test_break_even():
    assert break_even(signals=100, selection=20, full=100, subset=40) == 2
    assert break_even(signals=1, selection=0, full=10, subset=10) == math.inf
    with pytest.raises(BadInput):
        break_even(signals=-1, selection=0, full=1, subset=0)


def test_ratio_of_times():
    ratio, (low, high) = ratio_interval(np.full(20, 2.0), np.full(20, 1.0))
    assert (ratio, low, high) == (2, 2, 2)
