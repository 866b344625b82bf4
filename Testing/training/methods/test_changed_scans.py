"""The changes that the robustness benchmark makes to scans."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from multiorganseg.volumes.volume import Volume

WINDOW = (-125.0, 275.0)
SPACING = (3.0, 2.0, 2.0)
SHAPE = (60, 100, 120)


@pytest.fixture(scope="module")
def changed(harness) -> ModuleType:
    return harness("changed_scans")


@pytest.fixture
def scan(changed) -> Any:
    voxels = np.full(SHAPE, -125.0, np.float32)
    voxels[:, 15:85, 15:105] = 50
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:50, 30:60, 30:60], labels[20:40, 60:70, 70:80] = 1, 2
    voxels[labels == 1], voxels[labels == 2] = 110, 150
    affine = np.diag([SPACING[2], SPACING[1], SPACING[0], 1.0])
    return changed.Scan(Volume(voxels, affine, "scan"), labels, {1: "liver", 2: "aorta"}, WINDOW)


def test_every_change_keeps_image_and_labels_together(changed, scan):
    for name, change in changed.CHANGES.items():
        other = change(scan)
        assert other.volume.voxels.shape == other.labels.shape, name
        assert other.volume.voxels[other.labels == 1].size, name
        if "-like" not in name and "HU" not in name and "contrast" not in name:
            assert np.median(other.volume.voxels[other.labels == 1]) == pytest.approx(110, abs=1), name
    assert next(iter(changed.CHANGES.values()))(scan) is scan


def test_parts_and_fields_have_the_size_that_they_say(changed, scan):
    upper, middle = changed.upper_part(scan, 66), changed.middle_part(scan, 66)
    assert len(upper.labels) == len(middle.labels) == 22
    np.testing.assert_array_equal(upper.labels, scan.labels[-22:])
    field = changed.small_field(scan, 120)
    assert field.labels.shape == (60, 60, 60)
    assert field.volume.affine[:2, 3].min() > 0
    assert changed.CHANGES["box of 100 mm"](scan).labels.shape == (33, 50, 50)


def test_volumes_in_ml_stay_but_for_the_size_of_the_patient(changed, scan):
    def millilitres(some: Any) -> float:
        return float((some.labels == 1).sum() * some.volume.grid.voxel_volume)

    whole = millilitres(scan)
    assert millilitres(changed.scaled(scan, 1.3)) == pytest.approx(1.3**3 * whole)
    assert millilitres(changed.thick_slices(scan, 6)) == pytest.approx(whole)
    assert millilitres(changed.arm_beside(scan)) == whole


def test_phases_noise_and_contrast(changed, scan):
    aorta = scan.labels == 2
    assert np.median(changed.in_phase(scan, "unenhanced").volume.voxels[aorta]) < 80
    assert np.median(changed.in_phase(scan, "arterial").volume.voxels[aorta]) > 200
    noise = changed.noisy(scan, 30).volume.voxels - scan.volume.voxels
    assert noise[scan.labels == 1].std() == pytest.approx(30, rel=0.1)
    assert changed.contrasted(scan, 0.5).volume.voxels[aorta].mean() == pytest.approx(100)
