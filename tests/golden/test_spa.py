"""OBSPA scores, the joint update and the left-to-right sweep against an independent derivation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prunus.channels.obspa import obspa
from prunus.compensate.joint_ls import joint_ls
from prunus.compensate.reader import Matrix
from prunus.compensate.sweep import sweep
from prunus.maths.obs import output_error

pytestmark = pytest.mark.golden("spa--obspa")


@pytest.fixture
def net(case):
    """Readers by array name, the group they form, the damping."""
    taps, inputs = case.value("k"), torch.from_numpy(case["X"])
    hessian = 2 * inputs @ inputs.T
    np.testing.assert_allclose(hessian, case["H"], rtol=1e-7)
    names = sorted(name for name in case if name[0] == "w" and name[1:].isdigit())
    readers = {}
    for name in names:
        weight = torch.from_numpy(case[name])
        value = weight.reshape(len(weight), -1, taps)
        readers[name] = Matrix(name, f"{name}.weight", value, hessian=hessian)
    channels = len(case["score_channel"])
    group = SimpleNamespace(name="g", size=channels, writers=(), readers=tuple(readers.values()), vectors=())
    return readers, group, case.value("damp_fraction")


def test_scores(case, net):
    _, group, damp = net
    np.testing.assert_allclose(obspa(group, damp=damp), case["score_channel"], rtol=1e-7)
    np.testing.assert_allclose(obspa(group, damp=damp, score="block"), case["score_block"], rtol=1e-7)


def test_removed_are_the_lowest(case, net):
    _, group, damp = net
    lowest = np.argsort(obspa(group, damp=damp).numpy(), kind="stable")[: len(case["removed"])]
    np.testing.assert_array_equal(np.sort(lowest), np.sort(case["removed"]))


def test_updates_and_their_errors(case, net):
    readers, _, damp = net
    for name, reader in readers.items():
        number, dense = name[1:], case[name]
        joint = joint_ls(reader, case["removed"], damp=damp)[0].value.reshape(dense.shape)
        swept = sweep(reader, case["removed"], damp=damp)[0].value.reshape(dense.shape)
        zeroed = dense.reshape(len(dense), -1, case.value("k")).copy()
        zeroed[:, case["removed"]] = 0
        np.testing.assert_allclose(joint, case[f"joint_w{number}"], rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(swept, case[f"sweep_w{number}"], rtol=1e-7, atol=1e-12)
        errors = [_error(reader, new, dense) for new in (joint, swept, zeroed.reshape(dense.shape))]
        expected = [case.value(f"err_{kind}{number}") for kind in ("joint", "sweep", "zero")]
        np.testing.assert_allclose(errors, expected, rtol=1e-7)
        assert errors[0] <= errors[1] <= errors[2]


def _error(reader, new, dense):
    return output_error(torch.from_numpy(new - dense), reader.hessian) / 2
