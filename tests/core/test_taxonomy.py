"""The survey's axes: every method that removes something has a place, and every unit has its random control."""

from __future__ import annotations

import pytest

from cli.shell import done, refused
from prunus.core import registry
from prunus.core.errors import UnknownName
from prunus.core.taxonomy import AXES, REMOVES, fits, place

PRUNERS = [method for method in registry.methods() if method.kind in REMOVES and method.unit]


@pytest.mark.parametrize("method", PRUNERS, ids=lambda method: method.id)
def test_every_pruner_has_a_place(method):
    found = place(method)
    assert found is not None
    for axis, values in AXES.items():
        assert getattr(found, axis) in values, axis


@pytest.mark.parametrize("unit", sorted({method.unit for method in PRUNERS}))
def test_every_unit_has_a_random_control(unit):
    assert any(fits(method, family="random") for method in PRUNERS if method.unit == unit)


@pytest.mark.parametrize("axis", ["speedup", "data"])
def test_no_value_of_the_axes_is_empty(axis):
    for value in AXES[axis]:
        assert any(fits(method, **{axis: value}) for method in PRUNERS), value


def test_known_methods_stand_where_the_survey_puts_them():
    found = {
        name: place(registry.find(name, kind=REMOVES))
        for name in ("weights/magnitude", "weights/wanda", "channels/taylor")
    }
    assert (found["weights/magnitude"].family, found["weights/magnitude"].data) == ("magnitude", "free")
    assert (found["weights/wanda"].family, found["weights/wanda"].data) == ("activation", "unlabelled")
    assert (found["channels/taylor"].family, found["channels/taylor"].data) == ("first-order", "labelled")
    assert {one.speedup for one in found.values()} == {"unstructured", "structured"}
    assert place(registry.find("measure/accuracy")) is None
    with pytest.raises(UnknownName, match="magnitude"):
        fits(PRUNERS[0], family="magnitud")


def test_the_axes_are_filters_of_the_catalogue():
    found = done("methods", "--speedup", "structured", "--family", "first-order", "--json").json
    assert "channels/taylor" in {method["id"] for method in found}
    assert all(method["taxonomy"]["family"] == "first-order" for method in found)
    assert "after" in refused(2, "methods", "--when", "afer")
