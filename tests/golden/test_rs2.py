"""RS2 against the released samplers: with the injected permutations, and with their legacy seed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from prunus.rows.rs2 import RS2

pytestmark = pytest.mark.golden("rs2--subsets")


def rounds(case, name):
    flat, offsets = case[f"{name}_flat"], case[f"{name}_off"]
    return [flat[start:end] for start, end in pairwise(offsets)]


def made(case, **options):
    n = int(case.value("n"))
    sampler = RS2(np.arange(n), fraction=float(case.value("r")), seed=int(case.value("seed")), **options)
    assert sampler.count == int(case.value("coreset_size"))
    return sampler


def injected(case):
    return lambda k, n: case["norepl_perms"][k]


def test_norepl_with_injected_permutations(case):
    sampler = made(case, tail="official", permutations=injected(case))
    resets = []
    for t, expected in enumerate(rounds(case, "norepl")):
        before = sampler._streams[0].passes
        np.testing.assert_array_equal(sampler.epoch(t).ids, expected)
        resets.append(sampler._streams[0].passes > before)
    np.testing.assert_array_equal(resets, case["norepl_reset"])


def test_norepl_with_the_legacy_seed(case):
    sampler = made(case, parity="official")
    for t, expected in enumerate(rounds(case, "norepl")):
        np.testing.assert_array_equal(sampler.epoch(t).ids, expected)


def test_repl_with_the_legacy_seed(case):
    sampler = made(case, replace=True, parity="official")
    for t, expected in enumerate(case["repl_subsets"]):
        np.testing.assert_array_equal(sampler.epoch(t).ids, expected)


def test_balanced_with_the_legacy_seed(case):
    sampler = made(case, replace=True, balance=True, labels=case["targets"], parity="official")
    for t, expected in enumerate(rounds(case, "balanced")):
        np.testing.assert_array_equal(sampler.epoch(t).ids, expected)


def test_the_corrected_wrap_agrees_until_it_wraps_and_is_never_short(case):
    sampler = made(case, permutations=injected(case))
    m, first, wrapped = sampler.count, case["norepl_perms"][0], False
    for t, released in enumerate(rounds(case, "norepl")):
        if (t + 1) * m > first.size:  # the first permutation runs out here
            wrapped = True
            break
        np.testing.assert_array_equal(sampler.epoch(t).ids, released)
    if not wrapped:
        return
    ours = sampler.epoch(t).ids
    rest = first[t * m :]
    assert ours.size == m == np.unique(ours).size
    np.testing.assert_array_equal(ours[: rest.size], rest)  # the rest of the pass, then rows of the next permutation
    following = case["norepl_perms"][1]
    np.testing.assert_array_equal(ours[rest.size :], following[~np.isin(following, rest)][: m - rest.size])
    if rest.size:  # the released epoch is the same rest, filled from its own permutation and one short
        np.testing.assert_array_equal(released, np.concatenate([rest, first[: m - rest.size - 1]]))
