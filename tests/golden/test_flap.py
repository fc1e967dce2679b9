"""FLAP against the released statistics, metrics, structures and biases."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.channels.flap import flap, released_statistics
from prunus.channels.flap_structures import released_masks
from prunus.compensate.mean_bias import mean_bias
from prunus.compensate.reader import Matrix

pytestmark = pytest.mark.golden("flap--layers")
SITES = {"attn": ("XA", "W_o", "o_bias"), "mlp": ("XM", "W_down", "down_bias")}


def _units(case, site):
    return case.value("n_heads") if site == "attn" else case["W_down"].shape[2]


def _statistics(case, site):
    """Released fluctuation, baseline and scaler of each layer."""
    return [released_statistics(torch.from_numpy(x)) for x in case[SITES[site][0]]]


def _reader(case, site, layer, statistics):
    units = _units(case, site)
    weight = torch.from_numpy(case[SITES[site][1]][layer])
    fluctuation, mean, squares = (s.reshape(units, -1) for s in statistics)
    reader = Matrix(site, f"{site}.weight", weight.reshape(len(weight), units, -1), input_mean=mean)
    return reader, SimpleNamespace(name=site, weight=reader.weight, input_var=fluctuation, input_norm=squares.sqrt())


def _scores(case, site, metric):
    scores = []
    for layer, statistics in enumerate(_statistics(case, site)):
        reader = _reader(case, site, layer, statistics)[1]
        group = SimpleNamespace(name=site, size=_units(case, site), writers=(), readers=(reader,), vectors=())
        scores.append(flap(group, metric=metric, parity="official"))
    return scores


@pytest.mark.parametrize("site", SITES)
def test_statistics(case, site):
    inputs = case[SITES[site][0]]
    fluctuation, mean, squares = (torch.stack(part).numpy() for part in zip(*_statistics(case, site)))
    np.testing.assert_allclose(fluctuation, case[f"{site}_fluc_official"], rtol=1e-4)
    np.testing.assert_allclose(mean, case[f"{site}_baseline"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(squares, case[f"{site}_scaler"], rtol=1e-4)
    variance = inputs.reshape(len(inputs), -1, inputs.shape[-1]).astype(np.float64).var(1, ddof=1)
    np.testing.assert_allclose(variance, case[f"{site}_token_variance"], rtol=1e-4)


def _kept(case, name):
    """The masks our functions give for `attn_keep_<metric>_<structure>`."""
    metric, structure = name.split("_")[2:]
    scores = [_scores(case, site, metric.lower()) for site in SITES]
    return released_masks(
        *scores,
        structure=f"{structure[:2]}-{structure[2:]}",
        ratio=case.value("pruning_ratio"),
        remove_heads=case.value("remove_heads"),
        head_dim=case.value("head_dim"),
        hidden=case["W_o"].shape[1],
    )


def test_masks(case):
    names = [name for name in case if name.startswith("attn_keep_")]
    assert names
    for name in names:
        heads, neurons = _kept(case, name)
        np.testing.assert_array_equal(heads, case[name], err_msg=name)
        np.testing.assert_array_equal(neurons, case[name.replace("attn", "mlp")], err_msg=name)


def test_biases(case):
    for name in [name for name in case if name.startswith("o_bias_")]:
        masks = dict(zip(SITES, _kept(case, name.replace("o_bias", "attn_keep"))))
        for site, (_, _, bias) in SITES.items():
            for layer, statistics in enumerate(_statistics(case, site)):
                reader = _reader(case, site, layer, statistics)[0]
                edits = mean_bias(reader, np.flatnonzero(~masks[site][layer].numpy()))
                ours = edits[0].value if edits else np.zeros(reader.weight.shape[2])
                np.testing.assert_allclose(ours, case[name.replace("o_bias", bias)][layer], rtol=1e-4, atol=1e-6)
