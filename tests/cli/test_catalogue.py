"""`prunus methods`: every method, its options, as text and as JSON."""

from __future__ import annotations

from cli.shell import done
from prunus.core import registry


def test_methods_lists_and_filters():
    assert len(done("methods", "--json").json) == len(registry.methods())
    found = done("methods", "--unit", "channels", "--kind", "criterion", "--json").json
    assert {method["unit"] for method in found} == {"channels"}
    assert "rows/el2n" in done("methods", "--needs", "probs").out


def test_a_method_shows_its_flags():
    text = done("methods", "ccs").out
    assert "--hard-cut" in text and "--strata" in text
    options = {option["name"] for option in done("methods", "finetune", "--json").json["options"]}
    assert {"epochs", "lr", "batch"} <= options
