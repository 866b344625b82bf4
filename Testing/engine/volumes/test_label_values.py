"""Label values that a program stored as scaled or noisy numbers come back, and images are never labels."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from multiorganseg.errors import VolumeError
from multiorganseg.volumes import Volume, VolumeWarning, read_labels, write_volume

LABELS = np.random.default_rng(3).integers(0, 14, (6, 7, 8))


@pytest.mark.parametrize("largest", [13, 100, 200])
def test_labels_scaled_to_eight_bits(largest: int, tmp_path: Path) -> None:
    labels = LABELS * (largest // 13)
    labels[0, 0, 0] = largest
    image = nibabel.Nifti1Image(labels.T.astype(np.float64), np.eye(4))
    image.set_data_dtype(np.uint8)
    nibabel.save(image, tmp_path / "labels.nii.gz")
    assert not np.array_equal(nibabel.load(tmp_path / "labels.nii.gz").get_fdata().T, labels)
    with pytest.warns(VolumeWarning, match="scl_slope"):
        assert np.array_equal(read_labels(tmp_path / "labels.nii.gz").voxels, labels)


def test_labels_near_whole_numbers(tmp_path: Path) -> None:
    near = LABELS.astype(np.float32)
    near[LABELS == 1], near[LABELS == 3] = 0.988, 3.012
    write_volume(Volume(near, np.eye(4)), tmp_path / "labels.nrrd")
    with pytest.warns(VolumeWarning, match=r"0.988 to 1, 3.012 to 3"):
        assert np.array_equal(read_labels(tmp_path / "labels.nrrd").voxels, LABELS)


@pytest.mark.parametrize("slope", [0.05, 0.5, 0.9, 1.7])
def test_a_scaled_image_is_no_label_map(slope: float, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(336, dtype=np.uint16).reshape(6, 7, 8), np.eye(4))
    raw = bytearray(image.to_bytes())
    raw[112:116] = np.array(slope, "<f4").tobytes()
    (tmp_path / "ct.nii").write_bytes(bytes(raw))
    with pytest.raises(VolumeError, match="scl_slope") as caught:
        read_labels(tmp_path / "ct.nii")
    assert "without scaling" in caught.value.next_step


def test_resampled_labels_are_refused(tmp_path: Path) -> None:
    write_volume(Volume(LABELS * 0.5, np.eye(4)), tmp_path / "labels.nii.gz")
    with pytest.raises(VolumeError, match="not a label map"):
        read_labels(tmp_path / "labels.nii.gz")
