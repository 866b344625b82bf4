from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes import Volume

TABLE = LabelTable({3: "liver", 7: "spleen"})
SHAPE = (14, 40, 44)
SPACING = (3.0, 1.5, 1.5)


def two_organs(seed: int = 0, spacing: tuple[float, float, float] = SPACING) -> tuple[Volume, np.ndarray]:
    """A CT of two balls in fat that touch, of 120 and 60 HU, and their labels."""
    k, j, i = np.indices(SHAPE)
    liver = ((k - 7) / 5) ** 2 + ((j - 20) / 11) ** 2 + ((i - 14) / 10) ** 2 < 1
    spleen = ((k - 7) / 4) ** 2 + ((j - 20) / 8) ** 2 + ((i - 31) / 8) ** 2 < 1
    labels = np.where(liver, 3, np.where(spleen, 7, 0)).astype(np.uint8)
    hu = np.select([liver, spleen], [120, 60], -80)
    hu = hu + np.random.default_rng(seed).normal(0, 8, SHAPE)
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = (-30.0, 12.0, 100.0)
    return Volume(hu.astype(np.int16), affine, "two organs", "CT"), labels


@pytest.fixture(scope="session")
def case() -> tuple[Volume, np.ndarray]:
    """A CT and its labels, 3 for liver and 7 for spleen."""
    return two_organs()


@pytest.fixture(scope="session")
def table() -> LabelTable:
    return TABLE


@pytest.fixture(scope="session")
def dice() -> Callable[[np.ndarray, np.ndarray], float]:
    return _dice


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other))
