"""Blocks and branches of language models: cached generation is uncached generation, and a run becomes one map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import prunus as px
from channels.lms import FAMILIES, cached, make, prunable, texts, uncached
from prunus.core.errors import BadInput, BudgetUnreachable
from prunus.layers.replaceme import fitted

EVERY = pytest.mark.parametrize("family", FAMILIES)
WAYS = {
    "block_influence": ("layers/block_influence", "drop 1 layers", {}),
    "angle": ("layers/block_influence", "drop 1 layers", {"angular": True}),
    "replaceme": ("layers/replaceme", "drop 1 layers", {}),
    "branches": ("layers/blockpruner", "drop 2 layers", {"once": True}),
}


@EVERY
def test_cached_is_uncached(family, tmp_path):
    dense, ids = prunable(family), texts()[0]["input_ids"]
    for name, (method, budget, options) in WAYS.items():
        if name == "branches" and family == "opt":
            options = {**options, "block_type": "attention"}  # its feed-forward is no module of its own
        plan = px.plan(dense, method, budget, data=texts(), **options)
        small = dense.apply(plan)
        whole = uncached(small, ids)
        torch.testing.assert_close(
            cached(small, ids), whole, rtol=1e-4, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
        assert not torch.allclose(whole, uncached(dense.model, ids))
        one, two = (small.generate(ids[:2], max_new_tokens=5, do_sample=False, use_cache=use) for use in (True, False))
        assert torch.equal(one, two), name


@pytest.mark.parametrize("family", ["phi3", "gpt2", "llama"])
def test_attention_and_feed_forward_are_found(family):
    rows = prunable(family).branches
    assert [row.attends for row in rows] == [True, False]
    assert all(all(row.removable) for row in rows)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_map_is_in_the_last_matrix(family, tmp_path):
    dense, ids = prunable(family), texts()[0]["input_ids"]
    plan = px.plan(dense, "replaceme", "drop 1 layers", data=texts(), damp=1e-9)
    plain = px.plan(dense, "replaceme", "drop 1 layers", data=texts(), fold=False)
    assert plan.dropped() == plain.dropped() and not plan.keep()[0]
    small, without = dense.apply(plan), dense.apply(plain)
    assert sum(p.numel() for p in small.parameters()) == sum(p.numel() for p in without.parameters())
    (gone,) = plan.dropped()
    chain = dense.chains[0].path
    h, m, r = (
        torch.cat(parts) for parts in zip(*(states(dense.model, chain, gone, plan, b["input_ids"]) for b in texts()))
    )
    best = torch.linalg.lstsq(m.double(), (r - h + m).double()).solution.float()
    again = torch.cat([states(small, chain, gone, plan, b["input_ids"], after=False)[0] for b in texts()])
    expected = h - m + m @ best
    assert (again - expected).norm() < 1e-3 * expected.norm() < 0.2 * (expected - h).norm()  # it is far from no map
    px.save(small, plan, tmp_path)
    torch.testing.assert_close(uncached(px.load(tmp_path, like=lambda: make(family)), ids), uncached(small, ids))


def states(model, chain, gone, plan, ids, after=True):
    """What the block before the gap gives, what its last matrix gives, and what the block after makes of it, `[tokens, d]`."""
    seen = {}
    names = [f"{chain}.{gone - 1}", plan.provenance["map_in"], *([f"{chain}.{gone}"] if after else [])]
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda m, args, out, n=name: seen.update({n: (out[0] if isinstance(out, tuple) else out).flatten(0, -2)})
        )
        for name in names
    ]
    uncached(model, ids)
    for hook in hooks:
        hook.remove()
    return [seen[name] for name in names]


def test_ridge_shrinks_to_plain_removal():
    generator = torch.Generator().manual_seed(0)
    m, r = (torch.randn(50, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    np.testing.assert_allclose(
        fitted(m.T @ m, m.T @ r, 0.0), np.eye(6) + np.linalg.lstsq(m.numpy(), r.numpy())[0], rtol=1e-9
    )
    np.testing.assert_allclose(fitted(m.T @ m, m.T @ r, 1e9), np.eye(6), atol=1e-6)


def test_runs_that_may_go():
    dense = prunable("llama")
    plan = px.plan(dense, "replaceme", "drop 1 layers", data=texts(), first="model.layers.2")
    assert plan.dropped().tolist() == [2]
    with pytest.raises(BudgetUnreachable, match="1 layers"):
        px.plan(dense, "replaceme", "drop 3 layers", data=texts())
    with pytest.raises(BadInput, match="no block"):
        px.plan(dense, "replaceme", "drop 1 layers", data=texts(), first="model.layers.7")
    pinned = px.plan(dense, "replaceme", "drop 1 layers", data=texts(), pin=("model.layers.1",))
    assert pinned.dropped().tolist() == [2]
