"""Golden cases: arrays made by the authors' own functions, or derived independently of any code.

A case is one `.npz` without pickles in the folder PRUNUS_GOLDEN (default `tests/golden/cases/`). Everything a test
needs is read from the file: shapes, seeds and hyper-parameters differ between committed cases and those kept back.

    def test_scores(golden):
        case = golden("data-diet--scores")          # one file, by its exact name
        case["logits"], case.value("subset_size")   # an array; a 0-d array as a Python number
        case.part("resnet20")                       # the arrays under "resnet20/"

    @pytest.mark.golden("data-diet--scores")        # once for every file whose name starts with the slug
    def test_scores(case): ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "cases"


def folder() -> Path:
    """Where the cases are: PRUNUS_GOLDEN, or the committed ones."""
    return Path(os.environ.get("PRUNUS_GOLDEN") or FOLDER)


class Case(Mapping[str, np.ndarray]):
    """The arrays of one case, by name."""

    def __init__(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        self.name, self._arrays = name, dict(arrays)

    @classmethod
    def read(cls, path: Path) -> Case:
        with np.load(path, allow_pickle=False) as arrays:
            return cls(path.stem, {key: arrays[key] for key in arrays.files})

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._arrays:
            pytest.fail(f"golden case {self.name} has no array {key!r}; it has {', '.join(sorted(self._arrays))}")
        return self._arrays[key]

    def __contains__(self, key: object) -> bool:
        return key in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def value(self, key: str) -> int | float | bool | str:
        """A 0-d (or one-element) array as a Python value."""
        return self[key].item()

    def part(self, prefix: str) -> Case:
        """The arrays whose names start with `prefix/`, without the prefix."""
        start = prefix.rstrip("/") + "/"
        inner = {key[len(start) :]: array for key, array in self._arrays.items() if key.startswith(start)}
        if not inner:
            pytest.fail(
                f"golden case {self.name} has nothing under {start!r}; it has {', '.join(sorted(self._arrays))}"
            )
        return Case(f"{self.name}/{prefix}", inner)

    @property
    def parts(self) -> list[str]:
        """The first components of names that have one, sorted."""
        return sorted({key.split("/", 1)[0] for key in self._arrays if "/" in key})


def paths(slug: str) -> list[Path]:
    """Every case file whose name starts with the slug, sorted by name."""
    return sorted(folder().glob(f"{slug}*.npz"))


def missing(slug: str) -> str:
    return f"no golden case starts with {slug!r} in {folder()}: copy {slug}*.npz there, or set PRUNUS_GOLDEN"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Case]:
    """`golden(name)` -> the case of that exact name, or the only one whose name starts with it."""

    def load(name: str) -> Case:
        exact = folder() / f"{name}.npz"
        found = [exact] if exact.exists() else paths(name)
        if not found:
            pytest.fail(missing(name))
        if len(found) > 1:
            pytest.fail(
                f"{name!r} starts several golden cases: {', '.join(p.stem for p in found)}; give the whole name"
            )
        return Case.read(found[0])

    return load


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "golden(slug): run the test once for every golden case whose name starts with slug"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid} takes `case`: mark it (or the module) with pytest.mark.golden(slug)"
        )
    slug = str(marker.args[0])
    found = paths(slug) or [None]
    metafunc.parametrize(
        "case", [(slug, path) for path in found], indirect=True, ids=[p.stem if p else "missing" for p in found]
    )


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """One case; a slug without a file fails here, it is not skipped."""
    slug, path = request.param
    if path is None:
        pytest.fail(missing(slug))
    return Case.read(path)
