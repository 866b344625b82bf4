from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from multiorganseg.volumes.stored import rescaled


@pytest.mark.parametrize(
    ("stored", "intercept", "dtype"),
    [
        ("uint16", -1024, "int16"),
        ("int16", -1024, "int16"),
        ("uint8", -100, "int16"),
        ("uint16", 60000, "int32"),
        ("int16", -33000, "int32"),
        ("int32", 5, "int32"),
        ("uint32", 4_000_000_000, "float32"),
        ("int16", 10**12, "float32"),
        ("int16", 0.5, "float32"),
        ("float32", 3, "float32"),
        ("int64", -1024, "float32"),
    ],
)
def test_values_and_types(stored: str, intercept: float, dtype: str) -> None:
    values = np.arange(60).reshape(3, 4, 5) * 4
    result = rescaled(values.astype(stored), 1.0, float(intercept))
    assert result.dtype == dtype
    assert np.allclose(result, values + float(intercept), rtol=1e-6)


def test_slope() -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    assert np.allclose(rescaled(values, 0.5, -3.0), values * 0.5 - 3)


@pytest.mark.parametrize("stored", ["uint16", "int16"])
def test_an_intercept_takes_no_second_volume(stored: str) -> None:
    voxels = np.full((200, 100, 100), 1000, stored)
    tracemalloc.start()
    result = rescaled(voxels, 1.0, -1024.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * voxels.nbytes
    assert (result == -24).all()
