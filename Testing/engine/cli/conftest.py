from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.bundles import Bundle, Preprocessing
from multiorganseg.volumes import Volume, write_volume


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(name="tiny")


@pytest.fixture(scope="session")
def tiny_mr(make_bundle: Callable[..., Bundle]) -> Bundle:
    standardised = Preprocessing((3.0, 2.0, 2.0), "zscore", None)
    return make_bundle(name="tiny-mr", modality="MR", preprocessing=standardised)


def make_ct(seed: int = 0) -> Volume:
    """An ellipse of soft tissue in air, 20 × 48 × 48 voxels at 3 × 2 × 2 mm, in LPS."""
    generator = np.random.default_rng(seed)
    k, j, i = np.mgrid[:20, :48, :48]
    body = ((j - 24) / 18) ** 2 + ((i - 24) / 20) ** 2 < 1
    voxels = np.where(body, 60 + 30 * np.sin(k / 3) + generator.normal(0, 10, body.shape), -1000)
    return Volume(voxels.astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]), "synthetic")


@pytest.fixture
def ct_file(tmp_path: Path) -> Path:
    path = tmp_path / "Bäuche 腹部" / "ct 1.nii.gz"
    path.parent.mkdir()
    write_volume(make_ct(), path)
    return path
