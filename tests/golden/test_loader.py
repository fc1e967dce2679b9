"""The golden loader: prefix, folder from the environment, a clear failure when a case is missing."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    np.savez(tmp_path / "some--case.npz", n=np.int64(3), **{"net/w": np.ones((2, 3))})
    np.savez(tmp_path / "some--other.npz", n=np.int64(5))
    monkeypatch.setenv("PRUNUS_GOLDEN", str(tmp_path))
    return tmp_path


def test_reads_from_the_folder_in_the_environment(elsewhere, golden):
    case = golden("some--case")
    assert case.value("n") == 3
    assert case.parts == ["net"]
    assert case.part("net")["w"].shape == (2, 3)


def test_unknown_names_fail_clearly(elsewhere, golden):
    with pytest.raises(pytest.fail.Exception, match="no golden case starts with 'nothing'"):
        golden("nothing")
    with pytest.raises(pytest.fail.Exception, match="some--case, some--other"):
        golden("some")
    with pytest.raises(pytest.fail.Exception, match="no array 'w'"):
        golden("some--case")["w"]


def test_pickles_are_refused(elsewhere, golden):
    np.savez(elsewhere / "evil.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        golden("evil")
