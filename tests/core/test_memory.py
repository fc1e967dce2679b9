"""Sizes as people write them, and formulas of memory."""

from __future__ import annotations

import pytest

from prunus.core.errors import BadInput
from prunus.core.memory import evaluate, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("512 MiB", 2**29), ("1.5kb", 1500), ("7", 7), (10, 10), (1e3, 1000)]
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "2 XB", "-1GB", "0", "2GB more", 0, -5])
def test_what_is_no_size(text):
    with pytest.raises(BadInput, match="size"):
        parse_bytes(text)


def test_formulas():
    assert evaluate("8 * n * d + min(100, 4 * n * n) - 2 / 1", n=3, d=5) == 120 + 36 - 2
    assert evaluate("(9 * k) if k else max(n, 2)", n=7, k=None) == 7
    assert evaluate("(9 * k) if k else max(n, 2)", n=7, k=2) == 18


@pytest.mark.parametrize("formula", ["n + z", "n ** 9", "open(n)", "n.real", "'a'", "[n]", "n and n"])
def test_a_formula_is_a_sum_of_products_of_known_names(formula):
    with pytest.raises(BadInput, match="no sum or product of known names"):
        evaluate(formula, n=3)
