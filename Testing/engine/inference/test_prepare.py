from __future__ import annotations

import warnings

import numpy as np
import pytest

from multiorganseg.bundles import Preprocessing
from multiorganseg.inference.prepare import prepare
from multiorganseg.volumes import Volume, VolumeWarning
from multiorganseg.volumes.hounsfield import to_hounsfield

WINDOW = Preprocessing((3.0, 2.0, 2.0), "window", (-125.0, 275.0))


def make_ct() -> np.ndarray:
    _, j, i = np.mgrid[:20, :40, :44]
    body = ((j - 20) / 15) ** 2 + ((i - 22) / 18) ** 2 < 1
    return np.where(body, 50 + np.random.default_rng(1).normal(0, 12, body.shape), -1000).astype(np.int16)


def test_stored_values_are_seen_as_hounsfield_units_in_training_and_use_alike() -> None:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, wanted = prepare(Volume(make_ct(), affine), WINDOW)
        stored = Volume((make_ct() + 1024).astype(np.uint16), affine)
        _, told_before = prepare(to_hounsfield(stored), WINDOW)
    with pytest.warns(VolumeWarning, match="1024 was subtracted"):
        _, seen = prepare(stored, WINDOW)
    np.testing.assert_array_equal(seen, wanted)
    np.testing.assert_array_equal(told_before, wanted)


def test_a_network_that_standardises_sees_the_values_as_they_are() -> None:
    _, image = prepare(Volume(make_ct() + 1024, np.eye(4)), Preprocessing((1.0, 1.0, 1.0), "zscore", None))
    assert abs(image.mean()) < 1e-3
